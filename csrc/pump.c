/* pump.c: see pump.h. No Lua. */
#include "pump.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 65536 };

/* A ring has twice its size, so that its bytes are moved once at most. */
static size_t most_room(const struct nsb_buffer *b) { return b->ring ? b->max * 2 : b->max; }

static int grow(struct nsb_buffer *b)
{
    size_t most = most_room(b);
    if (b->room - b->len >= CHUNK || b->room >= most) return 0;
    size_t room = b->room ? b->room * 2 : CHUNK;
    if (room > most) room = most;
    char *at = realloc(b->at, room);
    if (!at) return -ENOMEM;
    b->at = at;
    b->room = room;
    return 0;
}

static void drop_oldest(struct nsb_buffer *b)
{
    if (!b->ring || b->len < b->room || b->len <= b->max) return;
    memmove(b->at, b->at + b->len - b->max, b->max);
    b->len = b->max;
}

static void took(struct nsb_buffer *b, size_t n, int full)
{
    if (full) {
        b->truncated |= n > 0;
    } else {
        b->len += n;
        b->total += n;
        b->truncated |= b->len > b->max;
    }
}

static ssize_t read_some(struct nsb_buffer *b, int fd, size_t most)
{
    static char sink[CHUNK]; /* only ever written to */
    int err = grow(b);
    if (err < 0) return err;
    drop_oldest(b);
    size_t left = b->room - b->len;
    if (left > most) left = most;
    int full = left == 0;
    ssize_t n = read(fd, full ? sink : b->at + b->len, full ? sizeof sink : left);
    if (n < 0) return -errno;
    took(b, (size_t)n, full);
    return n;
}

const char *nsb_kept(const struct nsb_buffer *b, size_t *n)
{
    *n = b->len > b->max ? b->max : b->len;
    return b->at ? b->at + b->len - *n : "";
}

long nsb_fill(struct nsb_buffer *b, int fd, size_t most)
{
    size_t total = 0;
    while (total < most) {
        ssize_t n = read_some(b, fd, most - total);
        if (n == -EINTR) continue;
        /* EIO: the last terminal of a pty has closed; pty(7) */
        if (n == -EIO) n = 0;
        if (n <= 0) return total && n != -ENOMEM ? (long)total : n;
        total += (size_t)n;
    }
    return (long)total;
}

static long write_all(int fd, const char *at, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t w = write(fd, at + done, n - done);
        if (w >= 0) {
            done += (size_t)w;
        } else if (errno == EAGAIN) {
            struct pollfd p = {fd, POLLOUT, 0};
            if (poll(&p, 1, -1) < 0 && errno != EINTR) return -errno;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return (long)n;
}

static long relay_some(int from, int to)
{
    char chunk[CHUNK];
    ssize_t n = read(from, chunk, sizeof chunk);
    if (n < 0) return errno == EIO ? 0 : -errno;
    return n ? write_all(to, chunk, (size_t)n) : 0;
}

long nsb_relay(int from, int to)
{
    long total = 0, n;
    do {
        n = relay_some(from, to);
        if (n > 0) total += n;
    } while (n > 0 && total < CHUNK);
    return total ? total : n;
}
