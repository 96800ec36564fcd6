// Package scenario runs named scenarios and prints the lines that the suite reads: `client NAME VERSION`, then for
// each scenario `ok NAME` or `FAIL NAME: why`.
package scenario

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
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

// Whom the secured node knows; SCENARIOS.md tells of it.
const (
	User          = "alice"
	Password      = "alice-secret"
	WrongPassword = "wrong-secret"
)

// Listener is the address of the secured node's listener with this protocol.
func Listener(protocol string) string {
	return os.Getenv("HIGHWATER_TEST_" + protocol)
}

// TLSFile is the path of a certificate, key or token.
func TLSFile(name string) string {
	return filepath.Join(os.Getenv("HIGHWATER_TEST_TLS"), name)
}

// Token is what a token file holds.
func Token(name string) string {
	text, err := os.ReadFile(TLSFile(name))
	Must(err, "token")
	return string(text)
}

// TLS trusts the secured node's authority; withCertificate shows the client's own certificate, too.
func TLS(withCertificate bool) *tls.Config {
	authority, err := os.ReadFile(TLSFile("ca.pem"))
	Must(err, "authority")
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	Check(config.RootCAs.AppendCertsFromPEM(authority), "ca.pem holds no certificate")
	if withCertificate {
		certificate, err := tls.LoadX509KeyPair(TLSFile("client.crt"), TLSFile("client.key"))
		Must(err, "certificate")
		config.Certificates = []tls.Certificate{certificate}
	}
	return config
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
