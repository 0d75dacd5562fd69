/* Looks up each argument with getaddrinfo(3), one after the other. For each a line: `ok` and the
 * addresses, or how the application hears that it failed. */

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void print_addresses(const struct addrinfo *found)
{
	printf("ok");
	for (; found; found = found->ai_next) {
		char text[INET6_ADDRSTRLEN];
		const void *address = found->ai_family == AF_INET
			? (const void *)&((struct sockaddr_in *)found->ai_addr)->sin_addr
			: (const void *)&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr;
		printf(" %s", inet_ntop(found->ai_family, address, text, sizeof text));
	}
	printf("\n");
}

int main(int count, char **names)
{
	struct addrinfo hints;
	memset(&hints, 0, sizeof hints);
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	for (int at = 1; at < count; at++) {
		struct addrinfo *found = NULL;
		int error = getaddrinfo(names[at], NULL, &hints, &found);
		if (error == 0) {
			print_addresses(found);
			freeaddrinfo(found);
		} else if (error == EAI_AGAIN || error == EAI_FAIL) {
			printf("try-again %s\n", gai_strerror(error));
		} else {
			printf("unknown-host %s\n", gai_strerror(error));
		}
		fflush(stdout);
	}
	return 0;
}
