// Looks up each argument with Go's own resolver, one after the other. For each a line: `ok` and
// the addresses, or how the application hears that it failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(runtime.Version())
		return
	}
	resolver := net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		addresses, err := resolver.LookupHost(context.Background(), name)
		var failure *net.DNSError
		switch {
		case err == nil:
			fmt.Println("ok", strings.Join(addresses, " "))
		case errors.As(err, &failure) && failure.IsNotFound:
			fmt.Println("unknown-host", err)
		default:
			fmt.Println("try-again", err)
		}
	}
}
