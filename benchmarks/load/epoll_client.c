/* The reference client: as little as a client can do that stamps each read and counts events.
 *
 *     epoll_client PORT STREAMS REQUESTS ISL OSL OUT
 *
 * STREAMS keep-alive connections on 127.0.0.1; each sends its next request when the last one ended, until REQUESTS
 * are done. One epoll loop, one recv() a wake-up, one stamp (CLOCK_MONOTONIC) per recv(). It parses neither HTTP
 * nor JSON: an event with content is `"text":"`, the end is `data: [DONE]`. OUT receives struct record and the
 * time of each event, as truth.py reads them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 65536
#define TAIL 11 /* one less than the longer of both patterns */
#define EVENTS 256

static const char content[] = "\"text\":\"", done[] = "data: [DONE]";

struct record {
    uint64_t number;
    int64_t sent_ns;
    uint64_t count;
};

struct stream {
    int fd;
    int64_t number, sent_ns, *at_ns;
    int count;
    char tail[TAIL];
    int tail_len;
};

static int requests, osl, isl, sent_so_far, ended, poller;
static FILE *out;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void start(struct stream *s) {
    static char body[1 << 20], bytes[(1 << 20) + 512];
    s->number = sent_so_far++;
    s->count = s->tail_len = 0;
    int length = sprintf(body, "{\"model\":\"m\",\"prompt\":\"");
    for (int word = 0; word < isl; word++) length += sprintf(body + length, word ? " able" : "able");
    length += sprintf(body + length, "\",\"max_tokens\":%d,\"stream\":true,\"stream_options\":{\"include_usage\":true}}", osl);
    int size = sprintf(bytes, "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                              "X-Request-Id: %lld\r\nContent-Length: %d\r\n\r\n%s", (long long)s->number, length, body);
    s->sent_ns = now_ns();
    if (send(s->fd, bytes, size, MSG_NOSIGNAL) != size) die("send");
}

static int count_of(const char *bytes, size_t length) {
    int found = 0;
    for (const char *at = bytes, *end = bytes + length; (at = memmem(at, end - at, content, sizeof content - 1)); at++) found++;
    return found;
}

static void finish(struct stream *s) {
    struct record record = {s->number, s->sent_ns, s->count};
    fwrite(&record, sizeof record, 1, out);
    fwrite(s->at_ns, sizeof(int64_t), s->count, out);
    ended++;
    if (sent_so_far < requests) start(s);
}

static void take(struct stream *s) {
    static char bytes[TAIL + READ_BYTES];
    memcpy(bytes, s->tail, s->tail_len);
    ssize_t got = recv(s->fd, bytes + s->tail_len, READ_BYTES, 0);
    int64_t at_ns = now_ns();
    if (got <= 0) die("recv");
    size_t length = s->tail_len + got;
    /* A pattern that the tail holds whole was counted before. */
    int events = count_of(bytes, length) - count_of(bytes, s->tail_len);
    if (s->count + events > osl) die("more events than were asked for");
    for (int i = 0; i < events; i++) s->at_ns[s->count++] = at_ns;
    if (s->count == osl && memmem(bytes, length, done, sizeof done - 1)) {
        finish(s);
        return;
    }
    s->tail_len = length < TAIL ? length : TAIL;
    memcpy(s->tail, bytes + length - s->tail_len, s->tail_len);
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "epoll_client PORT STREAMS REQUESTS ISL OSL OUT\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int streams = atoi(argv[2]), on = 1;
    requests = atoi(argv[3]), isl = atoi(argv[4]), osl = atoi(argv[5]);
    out = fopen(argv[6], "wb");
    if (!out) die(argv[6]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct stream *all = calloc(streams, sizeof *all);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < streams; i++) {
        struct stream *s = &all[i];
        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (s->fd < 0 || connect(s->fd, (void *)&address, sizeof address)) die("connect");
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        s->at_ns = calloc(osl, sizeof(int64_t));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event)) die("epoll_ctl");
    }
    for (int i = 0; i < streams && sent_so_far < requests; i++) start(&all[i]);
    struct epoll_event ready[EVENTS];
    while (ended < requests) {
        int count = epoll_wait(poller, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) take(ready[i].data.ptr);
    }
    if (fclose(out)) die(argv[6]);
    return 0;
}
