"""What a kubelet and its users rely on, each as a scenario: pods that are put beforehand, and a check of what became of them."""
