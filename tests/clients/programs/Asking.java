// Asks for names as an application under way does: a thread for each name; each asks for all of
// them in turn. `%` in a name is a number that counts up. A line for each lookup that failed, with
// its time, and at the end the sums as JSON.

import java.util.Locale;
import java.util.concurrent.atomic.AtomicInteger;

class Asking {
    // How long lookups may go on after the end; those that still do have failed.
    static final double GRACE_S = 10;
    // Numbers in names begin again from here on.
    static final int NUMBERS = 200;

    interface Resolver {
        Object find(String name) throws Exception;
    }

    final Resolver resolver;
    final String[] names;
    final double every, end;
    final AtomicInteger numbers = new AtomicInteger();
    int lookups, failed, busy;
    double lastFailure, slowest;

    static void run(String[] words, Resolver resolver) throws Exception {
        Asking asking = new Asking(words, resolver);
        for (int at = 0; at < asking.names.length; at++) {
            int first = at;
            Thread thread = new Thread(() -> asking.ask(first));
            thread.setDaemon(true);
            thread.start();
        }
        while (asking.isBusy() && now() < asking.end + GRACE_S) sleep(0.05);
        asking.tell();
    }

    Asking(String[] words, Resolver resolver) {
        this.resolver = resolver;
        end = now() + Double.parseDouble(words[0]);
        every = Double.parseDouble(words[1]) / 1000;
        names = java.util.Arrays.copyOfRange(words, 2, words.length);
        busy = names.length;
    }

    void ask(int next) {
        double due = now() + every * next / names.length;
        while (true) {
            sleep(due - now());
            if (now() >= end) break;
            String number = String.valueOf(numbers.get() % NUMBERS);
            String pattern = names[next++ % names.length];
            if (pattern.contains("%")) numbers.incrementAndGet();
            lookUp(pattern.replace("%", number));
            due = Math.max(due + every, now());
        }
        synchronized (this) {
            busy--;
        }
    }

    void lookUp(String name) {
        double begun = now();
        Exception error = null;
        try {
            resolver.find(name);
        } catch (Exception thrown) {
            error = thrown;
        }
        count(name, begun, now(), error);
    }

    synchronized void count(String name, double begun, double ended, Exception error) {
        lookups++;
        slowest = Math.max(slowest, ended - begun);
        if (error == null) return;
        failed++;
        lastFailure = ended;
        String line = error.toString().replace('\n', ' ');
        print("failed %.3f %s after %.3f s: %s%n", ended, name, ended - begun, line);
    }

    synchronized boolean isBusy() {
        return busy > 0;
    }

    synchronized void tell() {
        if (busy > 0) {
            lastFailure = now();
            slowest = GRACE_S;
        }
        print("{\"lookups\":%d,\"failed\":%d,\"last_failure_s\":%.3f,\"slowest_s\":%.3f}%n",
            lookups + busy, failed + busy, lastFailure, slowest);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static void print(String format, Object... values) {
        System.out.print(String.format(Locale.ROOT, format, values));
    }

    static double now() {
        return System.currentTimeMillis() / 1000.0;
    }

    static void sleep(double seconds) {
        try {
            Thread.sleep((long) Math.max(0, seconds * 1000));
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }
}
