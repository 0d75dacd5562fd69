/* Looks names up with getaddrinfo(3), as an application under way does: lookups SECONDS EVERY_MS
 * NAME... A thread for each name; each asks for all of them in turn. `%` in a name is a number that
 * counts up. A line for each lookup that failed, with its time, and at the end the sums as JSON. */

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* How long lookups may go on after the end; those that still do have failed. */
#define GRACE_S 10
/* Numbers in names begin again from here on. */
#define NUMBERS 200

static char **names;
static int name_count;
static double end, every;
static atomic_int numbers, busy;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long lookups, failed;
static double last_failure, slowest;

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void wait_until(double time)
{
	double left = time - now();
	if (left > 0) {
		struct timespec pause = {(time_t)left, (long)((left - (time_t)left) * 1e9)};
		nanosleep(&pause, NULL);
	}
}

static void write_name(char *to, size_t size, const char *pattern)
{
	const char *mark = strchr(pattern, '%');
	if (mark)
		snprintf(to, size, "%.*s%d%s", (int)(mark - pattern), pattern,
			atomic_fetch_add(&numbers, 1) % NUMBERS, mark + 1);
	else
		snprintf(to, size, "%s", pattern);
}

static void look_up(const char *name)
{
	struct addrinfo hints, *found = NULL;
	memset(&hints, 0, sizeof hints);
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	double begun = now();
	int error = getaddrinfo(name, NULL, &hints, &found);
	if (error == 0)
		freeaddrinfo(found);
	double ended = now();
	pthread_mutex_lock(&lock);
	lookups++;
	if (ended - begun > slowest)
		slowest = ended - begun;
	if (error != 0) {
		failed++;
		last_failure = ended;
		printf("failed %.3f %s after %.3f s: %s\n", ended, name, ended - begun,
			gai_strerror(error));
	}
	pthread_mutex_unlock(&lock);
}

static void *run(void *at)
{
	int next = (int)(long)at;
	double due = now() + every * next / name_count;
	while (wait_until(due), now() < end) {
		char name[256];
		write_name(name, sizeof name, names[next++ % name_count]);
		look_up(name);
		due = due + every > now() ? due + every : now();
	}
	busy--;
	return NULL;
}

int main(int count, char **words)
{
	if (count < 4)
		return 2;
	end = now() + atof(words[1]);
	every = atof(words[2]) / 1000;
	names = words + 3;
	name_count = count - 3;
	busy = name_count;
	for (long at = 0; at < name_count; at++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, run, (void *)at) != 0)
			return 1;
	}
	while (busy > 0 && now() < end + GRACE_S)
		wait_until(now() + 0.05);
	pthread_mutex_lock(&lock);
	if (busy > 0)
		last_failure = now();
	printf("{\"lookups\":%ld,\"failed\":%ld,\"last_failure_s\":%.3f,\"slowest_s\":%.3f}\n",
		lookups + busy, failed + busy, last_failure, busy > 0 ? GRACE_S : slowest);
	fflush(stdout);
	_exit(0);
}
