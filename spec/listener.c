/* listener: a program that listens, for specs: `listener unix PATH`, `listener inet PORT`, `listener inet6
 * PORT`. To each who connects it says "hello" and then gives back what comes. `listener full FAMILY WHERE`
 * never takes anybody, with room for one; `listener dgram unix PATH` has a socket of messages. Says "ready"
 * on stdout. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static union {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} at;

static socklen_t address(const char *family, const char *where)
{
    if (strcmp(family, "unix") == 0) {
        at.un.sun_family = AF_UNIX;
        strncpy(at.un.sun_path, where, sizeof at.un.sun_path - 1);
        return sizeof at.un;
    }
    in_port_t port = htons((in_port_t)atoi(where));
    if (strcmp(family, "inet") == 0) {
        at.in.sin_family = AF_INET;
        at.in.sin_port = port;
        at.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof at.in;
    }
    at.in6.sin6_family = AF_INET6;
    at.in6.sin6_port = port;
    at.in6.sin6_addr = in6addr_loopback;
    return sizeof at.in6;
}

static void serve(int fd)
{
    char data[4096];
    ssize_t n = write(fd, "hello\n", 6);
    while (n > 0 && (n = read(fd, data, sizeof data)) > 0) n = write(fd, data, (size_t)n);
    close(fd);
}

int main(int argc, char **argv)
{
    int full = argc > 1 && strcmp(argv[1], "full") == 0, dgram = argc > 1 && strcmp(argv[1], "dgram") == 0;
    int skip = full || dgram, on = 1;
    if (argc != 3 + skip) return 2;
    socklen_t size = address(argv[1 + skip], argv[2 + skip]);
    int fd = socket(at.any.sa_family, dgram ? SOCK_DGRAM : SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &at.any, size) < 0 || (!dgram && listen(fd, full ? 0 : 16) < 0)) {
        perror(argv[0]);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    puts("ready");
    fflush(stdout);
    if (full || dgram)
        for (;;) pause();
    for (;;) serve(accept(fd, NULL, NULL));
}
