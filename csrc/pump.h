/* pump.h: bytes from a descriptor into a bounded buffer, and from one descriptor to another. */
#ifndef NSB_PUMP_H
#define NSB_PUMP_H

#include "raw.h"

struct nsb_buffer {
    char *at;
    size_t len, room, max;
    uint64_t total; /* bytes ever kept: the position of the end of what is there */
    int ring;       /* beyond max the oldest bytes are dropped, not the newest */
    int truncated;  /* bytes were dropped */
};

/* Reads what is there, until the descriptor would block, at most `most` bytes. Bytes beyond the
 * buffer's max are dropped and noted: a program is never held up by a full buffer.
 * Returns the number of bytes read; 0 at the end; -EAGAIN when nothing is there; or another errno. */
NSB_HIDDEN long nsb_fill(struct nsb_buffer *b, int fd, size_t most);

/* What is kept: at most max bytes, in *n. */
NSB_HIDDEN const char *nsb_kept(const struct nsb_buffer *b, size_t *n);

/* Moves what is ready, of a descriptor that does not block, up to about 64 KiB: a terminal gives 4 KiB at a
 * time. Bytes moved, 0 at the end, or a negative errno. */
NSB_HIDDEN long nsb_relay(int from, int to);

#endif
