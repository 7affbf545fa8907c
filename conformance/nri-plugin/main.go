// An NRI plugin for tests, on the official stub package.
//
// It writes a line of JSON for everything it is told, and does with it what a file of behaviours says, which is read anew
// each time: a JSON object from the name of a call to what is to be done.
//
//	{"StartContainer": {"error": "not today"}, "CreateContainer": {"adjust": {...}, "update": [...]}}
//
// Behaviours: "error" answers with that, "sleep" waits so many milliseconds first, "exit" ends the process with that code,
// "adjust" and "update" answer with messages of the interface (field names as protobuf's JSON has them), "reject" is a
// validator's reason. An unsolicited request is sent when a line with its message comes on standard input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type behaviour struct {
	Error  string            `json:"error"`
	Sleep  int               `json:"sleep"`
	Exit   int               `json:"exit"`
	Adjust json.RawMessage   `json:"adjust"`
	Update []json.RawMessage `json:"update"`
	Reject string            `json:"reject"`
}

type plugin struct {
	journal    *os.File
	behaviours string
	events     stub.EventMask
	connection stub.Stub
	mutex      sync.Mutex
}

// told notes a call and does what is to be done with it.
func (p *plugin) told(name string, pod, container proto.Message, more map[string]any) (behaviour, error) {
	line := map[string]any{"call": name}
	for key, message := range map[string]proto.Message{"pod": pod, "container": container} {
		if message != nil && message.ProtoReflect().IsValid() {
			text, err := protojson.Marshal(message)
			if err != nil {
				return behaviour{}, err
			}
			line[key] = json.RawMessage(text)
		}
	}
	for key, value := range more {
		line[key] = value
	}
	p.note(line)
	var all map[string]behaviour
	if text, err := os.ReadFile(p.behaviours); err == nil {
		if err := json.Unmarshal(text, &all); err != nil {
			return behaviour{}, err
		}
	}
	do := all[name]
	time.Sleep(time.Duration(do.Sleep) * time.Millisecond)
	if do.Exit != 0 {
		os.Exit(do.Exit)
	}
	if do.Error != "" {
		return do, errors.New(do.Error)
	}
	return do, nil
}

func (p *plugin) note(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if _, err := p.journal.Write(append(text, '\n')); err != nil {
		panic(err)
	}
}

func updates(do behaviour) ([]*api.ContainerUpdate, error) {
	var found []*api.ContainerUpdate
	for _, text := range do.Update {
		update := &api.ContainerUpdate{}
		if err := protojson.Unmarshal(text, update); err != nil {
			return nil, err
		}
		found = append(found, update)
	}
	return found, nil
}

func (p *plugin) Configure(_ context.Context, config, runtime, version string) (stub.EventMask, error) {
	more := map[string]any{"config": config, "runtime": runtime, "version": version}
	_, err := p.told("Configure", nil, nil, more)
	return p.events, err
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	states := map[string]string{}
	for _, container := range containers {
		states[container.GetId()] = container.GetState().String()
	}
	ids := []string{}
	for _, pod := range pods {
		ids = append(ids, pod.GetId())
	}
	do, err := p.told("Synchronize", nil, nil, map[string]any{"pods": ids, "containers": states})
	if err != nil {
		return nil, err
	}
	return updates(do)
}

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	_, err := p.told("RunPodSandbox", pod, nil, nil)
	return err
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	_, err := p.told("StopPodSandbox", pod, nil, nil)
	return err
}

func (p *plugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	_, err := p.told("RemovePodSandbox", pod, nil, nil)
	return err
}

func (p *plugin) UpdatePodSandbox(_ context.Context, pod *api.PodSandbox, overhead, resources *api.LinuxResources) error {
	_, err := p.told("UpdatePodSandbox", pod, nil, map[string]any{
		"overhead": overhead.GetMemory().GetLimit().GetValue(),
		"limit":    resources.GetMemory().GetLimit().GetValue(),
	})
	return err
}

func (p *plugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	_, err := p.told("PostUpdatePodSandbox", pod, nil, nil)
	return err
}

func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	do, err := p.told("CreateContainer", pod, container, nil)
	if err != nil {
		return nil, nil, err
	}
	adjust := &api.ContainerAdjustment{}
	if do.Adjust != nil {
		if err := protojson.Unmarshal(do.Adjust, adjust); err != nil {
			return nil, nil, err
		}
	}
	others, err := updates(do)
	return adjust, others, err
}

func (p *plugin) PostCreateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.told("PostCreateContainer", pod, container, nil)
	return err
}

func (p *plugin) StartContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.told("StartContainer", pod, container, nil)
	return err
}

func (p *plugin) PostStartContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.told("PostStartContainer", pod, container, nil)
	return err
}

func (p *plugin) UpdateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container, resources *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	limit := resources.GetMemory().GetLimit().GetValue()
	do, err := p.told("UpdateContainer", pod, container, map[string]any{"limit": limit})
	if err != nil {
		return nil, err
	}
	return updates(do)
}

func (p *plugin) PostUpdateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.told("PostUpdateContainer", pod, container, nil)
	return err
}

func (p *plugin) StopContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) ([]*api.ContainerUpdate, error) {
	do, err := p.told("StopContainer", pod, container, nil)
	if err != nil {
		return nil, err
	}
	return updates(do)
}

func (p *plugin) RemoveContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.told("RemoveContainer", pod, container, nil)
	return err
}

// A validator is a plugin of its own kind here: the others don't subscribe to this.
type validator struct{ *plugin }

func (v *validator) ValidateContainerAdjustment(_ context.Context, request *api.ValidateContainerAdjustmentRequest) error {
	do, err := v.told("ValidateContainerAdjustment", request.GetPod(), request.GetContainer(), nil)
	if err == nil && do.Reject != "" {
		err = errors.New(do.Reject)
	}
	return err
}

// unsolicited sends what comes on standard input.
func (p *plugin) unsolicited() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		request := &api.UpdateContainersRequest{}
		if err := protojson.Unmarshal(lines.Bytes(), request); err != nil {
			panic(err)
		}
		p.mutex.Lock()
		connection := p.connection
		p.mutex.Unlock()
		failed, err := connection.UpdateContainers(request.GetUpdate())
		ids := []string{}
		for _, update := range failed {
			ids = append(ids, update.GetContainerId())
		}
		p.note(map[string]any{"call": "unsolicited", "failed": ids, "error": fmt.Sprint(err)})
	}
}

func main() {
	var (
		socket     = flag.String("socket", "", "where the runtime listens; unused when it launched us")
		name       = flag.String("name", "", "our name; unused when the runtime launched us")
		index      = flag.String("index", "", "our index; unused when the runtime launched us")
		journal    = flag.String("journal", os.Args[0]+".journal", "where everything is written")
		behaviours = flag.String("behaviours", os.Args[0]+".json", "what to do with it")
		events     = flag.String("events", "", "what to subscribe to; everything if it is empty")
		validates  = flag.Bool("validator", false, "judge what the others want, too")
		strict     = flag.Bool("strict", false, "requests shall fail when we do")
	)
	flag.Parse()
	file, err := os.OpenFile(*journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	p := &plugin{journal: file, behaviours: *behaviours}
	if *events != "" {
		p.events = api.MustParseEventMask(*events)
	}
	if *socket != "" {
		go p.unsolicited()
	}
	// A plugin that the runtime launched ends with its connection; the others come back.
	for {
		var options []stub.Option
		if *socket != "" {
			options = append(options, stub.WithSocketPath(*socket), stub.WithPluginName(*name), stub.WithPluginIdx(*index))
		}
		if *strict {
			options = append(options, stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: true}))
		}
		closed := make(chan struct{})
		options = append(options, stub.WithOnClose(func() { close(closed) }))
		var is any = p
		if *validates {
			is = &validator{p}
		}
		connection, err := stub.New(is, options...)
		if err != nil {
			panic(err)
		}
		if err := connection.Start(context.Background()); err == nil {
			p.mutex.Lock()
			p.connection = connection
			p.mutex.Unlock()
			p.note(map[string]any{"call": "started"})
			<-closed
			p.note(map[string]any{"call": "closed"})
		}
		if *socket == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
