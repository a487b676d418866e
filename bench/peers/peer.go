// A peer of figure-peers: golang.org/x/time/rate, a limiter for each key in a sync.Map, as is usual.
//
// Standard input: as peer.lua's.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const limit, windowSeconds = 1000000000, 60

var limiters sync.Map

func allow(key string) bool {
	got, found := limiters.Load(key)
	if !found {
		got, _ = limiters.LoadOrStore(key, rate.NewLimiter(rate.Limit(limit/windowSeconds), limit))
	}
	return got.(*rate.Limiter).Allow()
}

func round(keys []string, order []int, calls int) time.Duration {
	allowed := 0
	start := time.Now()
	for i := 0; i < calls; i++ {
		if allow(keys[order[i%len(order)]]) {
			allowed++
		}
	}
	spent := time.Since(start)
	if allowed != calls {
		os.Exit(1)
	}
	return spent
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	number := func() int {
		lines.Scan()
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			os.Exit(0) // the end of the figure
		}
		return n
	}
	keys := make([]string, number())
	for i := range keys {
		lines.Scan()
		keys[i] = lines.Text()
	}
	order := make([]int, number())
	for i := range order {
		order[i] = number()
	}
	for {
		fmt.Println(round(keys, order, number()).Nanoseconds())
	}
}
