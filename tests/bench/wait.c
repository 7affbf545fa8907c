/* The container's program on the floor: the smallest that the kernel can execute. It waits until it is killed. */

void _start(void) {
#if defined(__x86_64__)
    for (;;)
        __asm__ volatile("syscall" : : "a"(34 /* pause */) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = 73; /* ppoll of nothing, for ever */
    register long first __asm__("x0") = 0, second __asm__("x1") = 0, third __asm__("x2") = 0, fourth __asm__("x3") = 0;
    for (;;)
        __asm__ volatile("svc 0" : "+r"(first) : "r"(number), "r"(second), "r"(third), "r"(fourth) : "memory");
#else
#error "no such machine yet"
#endif
}
