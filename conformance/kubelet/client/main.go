// Streams of a kubelet's own HTTP API, as an API server would open them: exec, attach and port-forward, over SPDY or
// WebSocket.
//
//	streams exec    [-tty ROWSxCOLUMNS] -pod NAMESPACE/NAME -container NAME -- COMMAND...
//	streams attach  [-tty ROWSxCOLUMNS] -pod NAMESPACE/NAME -container NAME
//	streams forward -pod NAMESPACE/NAME -port REMOTE
//
// All take -kubelet URL and -transport spdy|websocket; exec and attach send their input with -stdin. The exit status of
// exec is the command's. forward prints the local port that it listens on and forwards until its input ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

// The exit status of everything that is not the command's own.
const failed = 255

// What the command line asks for.
type request struct {
	verb      string
	kubelet   string
	transport string
	pod       string
	container string
	port      string
	terminal  string
	stdin     bool
	command   []string
}

func main() {
	request, err := parse(os.Args[1:])
	if err == nil {
		err = request.run()
	}
	var ended exec.CodeExitError
	if errors.As(err, &ended) {
		os.Exit(ended.Code)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "streams:", err)
		os.Exit(failed)
	}
}

func parse(words []string) (*request, error) {
	if len(words) == 0 {
		return nil, errors.New("exec, attach or forward?")
	}
	r := &request{verb: words[0]}
	flags := flag.NewFlagSet(r.verb, flag.ExitOnError)
	flags.StringVar(&r.kubelet, "kubelet", "https://127.0.0.1:10250", "address of the kubelet")
	flags.StringVar(&r.transport, "transport", "spdy", "spdy or websocket")
	flags.StringVar(&r.pod, "pod", "", "namespace/name")
	flags.StringVar(&r.container, "container", "", "name of the container")
	flags.StringVar(&r.port, "port", "", "port in the pod")
	flags.StringVar(&r.terminal, "tty", "", "size of a terminal, rows x columns, as 24x80")
	flags.BoolVar(&r.stdin, "stdin", false, "send the input")
	if err := flags.Parse(words[1:]); err != nil {
		return nil, err
	}
	r.command = flags.Args()
	if r.transport != "spdy" && r.transport != "websocket" {
		return nil, fmt.Errorf("transport %q is neither spdy nor websocket", r.transport)
	}
	return r, nil
}

func (r *request) run() error {
	switch r.verb {
	case "exec", "attach":
		return r.stream()
	case "forward":
		return r.forward()
	default:
		return fmt.Errorf("%q is none of exec, attach and forward", r.verb)
	}
}

// The kubelet's certificate is its own: only the loopback is between.
func (r *request) config() *rest.Config {
	return &rest.Config{Host: r.kubelet, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (r *request) address(path string, query url.Values) (*url.URL, error) {
	address, err := url.Parse(r.kubelet)
	if err != nil {
		return nil, err
	}
	address.Path = path
	address.RawQuery = query.Encode()
	return address, nil
}

func (r *request) stream() error {
	terminal := r.terminal != ""
	query := url.Values{"output": {"1"}, "command": r.command}
	for name, wanted := range map[string]bool{"input": r.stdin, "error": !terminal, "tty": terminal} {
		if wanted {
			query.Set(name, "1")
		}
	}
	address, err := r.address("/"+r.verb+"/"+r.pod+"/"+r.container, query)
	if err != nil {
		return err
	}
	executor, err := r.executor(address)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: terminal}
	if r.stdin {
		options.Stdin = os.Stdin
	}
	if terminal {
		if options.TerminalSizeQueue, err = oneSize(r.terminal); err != nil {
			return err
		}
	} else {
		options.Stderr = os.Stderr
	}
	return executor.StreamWithContext(context.Background(), options)
}

func (r *request) executor(address *url.URL) (remotecommand.Executor, error) {
	if r.transport == "websocket" {
		return remotecommand.NewWebSocketExecutor(r.config(), http.MethodGet, address.String())
	}
	return remotecommand.NewSPDYExecutor(r.config(), http.MethodPost, address)
}

func (r *request) forward() error {
	address, err := r.address("/portForward/"+r.pod, url.Values{})
	if err != nil {
		return err
	}
	transport, upgrader, err := spdy.RoundTripperFor(r.config())
	if err != nil {
		return err
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, address)
	if r.transport == "websocket" {
		if dialer, err = portforward.NewSPDYOverWebsocketDialer(address, r.config()); err != nil {
			return err
		}
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{":" + r.port}, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	go func() {
		<-ready
		ports, err := forwarder.GetPorts()
		if err == nil {
			fmt.Println(ports[0].Local)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	return forwarder.ForwardPorts()
}

// A terminal that never changes its size.
type size chan remotecommand.TerminalSize

func oneSize(text string) (size, error) {
	var rows, columns uint16
	if _, err := fmt.Sscanf(strings.ToLower(text), "%dx%d", &rows, &columns); err != nil {
		return nil, fmt.Errorf("size of the terminal %q: %w", text, err)
	}
	queue := make(size, 1)
	queue <- remotecommand.TerminalSize{Width: columns, Height: rows}
	return queue, nil
}

// Next gives the size once and then waits for ever.
func (queue size) Next() *remotecommand.TerminalSize {
	next := <-queue
	return &next
}
