// Package scenario runs named scenarios and prints the lines that the suite reads: `client NAME VERSION`, then for
// each scenario `ok NAME` or `FAIL NAME: why`.
package scenario

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Scenarios mostly wait for rebalances, so a few run at once.
const atOnce = 4

// Limit bounds every wait for the broker.
const Limit = 20 * time.Second

// Scenario is one row of SCENARIOS.md. Run panics when the broker is wrong.
type Scenario struct {
	Name string
	Run  func(bootstrap string)
}

type failure string

// Fail ends the scenario. It must be called on the scenario's own goroutine.
func Fail(format string, values ...any) {
	_, _, line, _ := runtime.Caller(2)
	panic(failure(fmt.Sprintf("line %d: ", line) + fmt.Sprintf(format, values...)))
}

// Check fails the scenario unless the condition holds.
func Check(condition bool, format string, values ...any) {
	if !condition {
		Fail(format, values...)
	}
}

// Must fails the scenario with an error.
func Must(err error, what string) {
	if err != nil {
		Fail("%s: %v", what, err)
	}
}

// Equal fails the scenario unless the values are deeply equal.
func Equal[T any](actual, expected T, what string) {
	if !reflect.DeepEqual(actual, expected) {
		Fail("%s: expected %v, got %v", what, expected, actual)
	}
}

// Eventually polls the condition until it holds.
func Eventually(what string, condition func() bool) {
	deadline := time.Now().Add(Limit)
	for !condition() {
		if time.Now().After(deadline) {
			Fail("not within %v: %s", Limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Unique makes a name that no other run has used.
func Unique(name string) string {
	tail := make([]byte, 4)
	if _, err := rand.Read(tail); err != nil {
		panic(err)
	}
	return name + "-" + hex.EncodeToString(tail)
}

// Main carries out the scenarios that the arguments name, or all.
// usage: PROGRAM BOOTSTRAP [SCENARIO...]
func Main(client, module string, scenarios []Scenario) {
	fmt.Println("client", client, version(module))
	byName := map[string]Scenario{}
	names := os.Args[2:]
	for _, each := range scenarios {
		byName[each.Name] = each
		if len(os.Args) == 2 {
			names = append(names, each.Name)
		}
	}
	waiting := make(chan string, len(names))
	for _, name := range names {
		waiting <- name
	}
	close(waiting)
	var group sync.WaitGroup
	var failed sync.Once
	code := 0
	for range atOnce {
		group.Go(func() {
			for name := range waiting {
				if why := outcome(byName[name], os.Args[1]); why != "" {
					failed.Do(func() { code = 1 })
					fmt.Printf("FAIL %s: %s\n", name, strings.Join(strings.Fields(why), " "))
				} else {
					fmt.Println("ok", name)
				}
			}
		})
	}
	group.Wait()
	os.Exit(code)
}

func outcome(scenario Scenario, bootstrap string) (why string) {
	if scenario.Run == nil {
		return "this program has no such scenario"
	}
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case failure:
			why = string(problem)
		default:
			why = fmt.Sprintf("panic: %v %s", problem, debug.Stack())
		}
	}()
	scenario.Run(bootstrap)
	return ""
}

func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	return "unknown"
}
