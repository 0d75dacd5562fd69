/* Looks up names as programs do, with the C library that this is compiled with.
 *
 * Prints one line per argument. For a name: it, its canonical name, its addresses, sorted.
 * For an address: it and its name. What does not exist: the argument and "- not there".
 * What cannot be found out: the argument, "-", and the reason. */
#define _GNU_SOURCE /* EAI_NODATA: the name exists, but not for these families. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { ADDRESSES_MAX = 64, NAME_LEN = 256 };

static int compare(const void *one, const void *other) { return strcmp(one, other); }

static void show(const struct addrinfo *found) {
    char addresses[ADDRESSES_MAX][INET6_ADDRSTRLEN];
    int count = 0;
    printf(" %s", found->ai_canonname ? found->ai_canonname : "?");
    for (; found && count < ADDRESSES_MAX; found = found->ai_next)
        if (!getnameinfo(found->ai_addr, found->ai_addrlen, addresses[count],
                         sizeof addresses[count], NULL, 0, NI_NUMERICHOST))
            count++;
    qsort(addresses, count, sizeof addresses[0], compare);
    for (int i = 0; i < count; i++)
        printf(" %s", addresses[i]);
}

static int name_of(const struct addrinfo *address) {
    char name[NAME_LEN];
    int error = getnameinfo(address->ai_addr, address->ai_addrlen, name, sizeof name, NULL, 0,
                            NI_NAMEREQD);
    if (!error)
        printf(" %s", name);
    return error;
}

static int look_up(const char *text) {
    struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo named = {.ai_flags = AI_CANONNAME, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int error = 0;
    if (!getaddrinfo(text, NULL, &numeric, &found))
        error = name_of(found);
    else if (!(error = getaddrinfo(text, NULL, &named, &found)))
        show(found);
    if (found)
        freeaddrinfo(found);
    return error;
}

static const char *reason(int error) {
    return error == EAI_NONAME || error == EAI_NODATA ? "not there" : gai_strerror(error);
}

int main(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        printf("%s", arguments[i]);
        int error = look_up(arguments[i]);
        if (error)
            printf(" - %s", reason(error));
        printf("\n");
    }
    return 0;
}
