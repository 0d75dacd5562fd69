/* The least that a UDP server can do: every packet goes back with QR set.
 *
 *     echo PORT [OCTETS]
 *
 * recvmmsg and sendmmsg of up to 64 packets on 127.0.0.1:PORT, with a receive buffer as large as
 * that of Mainstay. With OCTETS every reply is that long: what longer replies cost in the kernel.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, ROOM = 4096, RECEIVE_BUFFER = 4 << 20 };

static char packets[BATCH][ROOM];
static struct sockaddr_in peers[BATCH];
static struct iovec rooms[BATCH];
static struct mmsghdr headers[BATCH];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int listen_on(int port) {
    int size = RECEIVE_BUFFER, fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    return fd;
}

static void set_up(void) {
    for (int i = 0; i < BATCH; i++) {
        rooms[i] = (struct iovec){packets[i], ROOM};
        headers[i].msg_hdr = (struct msghdr){
            .msg_name = &peers[i], .msg_namelen = sizeof peers[i],
            .msg_iov = &rooms[i], .msg_iovlen = 1,
        };
    }
}

/* What receiving and sending have changed in those that were used. */
static void renew(int count) {
    for (int i = 0; i < count; i++) {
        rooms[i].iov_len = ROOM;
        headers[i].msg_hdr.msg_namelen = sizeof peers[i];
    }
}

int main(int argc, char **argv) {
    int fd = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    size_t octets = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    if (octets > ROOM) fail("OCTETS");
    set_up();
    for (;;) {
        int count = recvmmsg(fd, headers, BATCH, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EINTR) fail("recvmmsg");
        for (int i = 0; i < count; i++) {
            packets[i][2] |= (char)0x80;
            rooms[i].iov_len = octets ? octets : headers[i].msg_len;
        }
        for (int sent = 0, next; sent < count; sent += next > 0 ? next : 1)
            next = sendmmsg(fd, headers + sent, count - sent, 0);
        renew(count);
    }
}
