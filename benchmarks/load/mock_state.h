/* What the mock server keeps: requests, connections, and the agenda of tokens to write. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 65536
#define WORDS 64
#define SPELLINGS 16
#define EVENTS 256
#define TOKENS_BETWEEN_LOOKS 16 /* tokens written before new requests are looked for */
#define BODY_LIMIT (8 << 20)

enum endpoint { COMPLETIONS, CHAT };

struct record { /* as written to the truth file, followed by `written` times of 8 bytes */
    uint64_t serial;
    uint32_t connection, order;
    int64_t arrived_ns, read_ns, ended_ns;
    uint32_t wanted, written;
    char request_id[64];
};

struct request {
    struct record record;
    int64_t *at_ns;
    enum endpoint endpoint;
    bool streams, usage, close;
};

struct connection {
    int fd; /* 0: not in use */
    uint32_t number, requests, generation;
    char *in;
    size_t in_len, in_cap;
    int64_t stamped_ns, read_ns;
    char *out; /* what a full socket did not take */
    size_t out_len, out_cap;
    bool close_when_sent;
    struct request *request;
};

struct due {
    int64_t at_ns;
    uint32_t fd, generation;
};

static struct connection connections[MAX_FDS];
static struct due *heap;
static size_t heap_len, heap_cap;
static struct request **requests;
static size_t requests_len, requests_cap;
static uint32_t connections_seen;
static int poller;
static const char *model = "m";
static int64_t ttft_ns = 50000000, gap_ns = 10000000, spin_ns = 0;
static bool serial_as_prompt_tokens = false;

static char word_chunk[2][2][WORDS][512]; /* [endpoint][is last][word] */
static size_t word_len[2][2][WORDS], id_at[2];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *grown(void *block, size_t size) {
    void *found = realloc(block, size);
    if (!found) die("realloc");
    return found;
}

static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* --- the agenda: a binary heap of the next token of each request */

static void push(struct due item) {
    if (heap_len == heap_cap) heap = grown(heap, sizeof *heap * (heap_cap = heap_cap ? 2 * heap_cap : 1024));
    size_t hole = heap_len++;
    while (hole && heap[(hole - 1) / 2].at_ns > item.at_ns) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = item;
}

static void sink_top(struct due item) { /* the top becomes `item` */
    size_t hole = 0, child;
    while ((child = 2 * hole + 1) < heap_len) {
        if (child + 1 < heap_len && heap[child + 1].at_ns < heap[child].at_ns) child++;
        if (heap[child].at_ns >= item.at_ns) break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = item;
}

static void drop_top(void) {
    if (--heap_len) sink_top(heap[heap_len]);
}
