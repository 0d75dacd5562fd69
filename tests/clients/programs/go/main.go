// Looks names up with net.LookupHost, as an application under way does: lookups SECONDS EVERY_MS
// NAME... A goroutine for each name; each asks for all of them in turn. `%` in a name is a number
// that counts up. A line for each lookup that failed, with its time, and at the end the sums as
// JSON.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How long lookups may go on after the end; those that still do have failed.
const grace = 10 * time.Second

// Numbers in names begin again from here on.
const numbersMax = 200

// What is counted.
type sums struct {
	sync.Mutex
	numbers, lookups, failed, busy int
	lastFailure, slowest           float64
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(runtime.Version())
		return
	}
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	milliseconds, _ := strconv.Atoi(os.Args[2])
	every, names := time.Duration(milliseconds)*time.Millisecond, os.Args[3:]
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	all := sums{busy: len(names)}
	var running sync.WaitGroup
	for at := range names {
		running.Add(1)
		go func() {
			defer running.Done()
			all.run(at, names, every, end)
		}()
	}
	ended := make(chan bool)
	go func() { running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Until(end.Add(grace))):
	}
	all.tell()
}

func (all *sums) run(next int, names []string, every time.Duration, end time.Time) {
	due := time.Now().Add(every * time.Duration(next) / time.Duration(len(names)))
	for {
		time.Sleep(time.Until(due))
		if !time.Now().Before(end) {
			break
		}
		all.lookUp(names[next%len(names)])
		next++
		if due = due.Add(every); due.Before(time.Now()) {
			due = time.Now()
		}
	}
	all.Lock()
	all.busy--
	all.Unlock()
}

func (all *sums) lookUp(pattern string) {
	name := pattern
	if strings.Contains(pattern, "%") {
		all.Lock()
		name = strings.Replace(pattern, "%", strconv.Itoa(all.numbers%numbersMax), 1)
		all.numbers++
		all.Unlock()
	}
	begun := time.Now()
	_, err := net.LookupHost(name)
	ended := time.Now()
	took := ended.Sub(begun).Seconds()
	all.Lock()
	defer all.Unlock()
	all.lookups++
	all.slowest = max(all.slowest, took)
	if err != nil {
		all.failed++
		all.lastFailure = seconds(ended)
		fmt.Printf("failed %.3f %s after %.3f s: %v\n", all.lastFailure, name, took, err)
	}
}

func (all *sums) tell() {
	all.Lock()
	if all.busy > 0 {
		all.lastFailure, all.slowest = seconds(time.Now()), grace.Seconds()
	}
	fmt.Printf("{\"lookups\":%d,\"failed\":%d,\"last_failure_s\":%.3f,\"slowest_s\":%.3f}\n",
		all.lookups+all.busy, all.failed+all.busy, all.lastFailure, all.slowest)
	os.Exit(0)
}

func seconds(time time.Time) float64 {
	return float64(time.UnixMicro()) / 1e6
}
