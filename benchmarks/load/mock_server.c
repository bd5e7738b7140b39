/* An LLM server of known timing, on one core: it streams tokens by a fixed schedule and tells when it wrote each.
 *
 *     mock_server [--port 0] [--model m] [--ttft-us 50000] [--gap-us 10000] [--spin-us 0]
 *                 [--serial-as-prompt-tokens] [--truth FILE]
 *
 * Token k of a request is due at arrival + ttft + k * gap, whatever happened to the tokens before it; each is one
 * SSE event in one HTTP chunk in one send(). Arrival is when the kernel took in the request's last bytes
 * (SO_TIMESTAMPNS), so that a moment in which this server was busy is not booked to its client; where the kernel
 * gives no stamp, it is when they were read. Times are CLOCK_MONOTONIC. The truth (struct record and the time of
 * each send) goes to FILE on SIGTERM or SIGINT, and to whoever asks for /truth. Prints its URL first, and what it
 * knows of its own lateness last. See README.md for the layout.
 */
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

/* --- sending */

static void watch(struct connection *c, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.fd = c->fd};
    if (epoll_ctl(poller, how, c->fd, &event)) die("epoll_ctl");
}

static void close_connection(struct connection *c) {
    if (c->request) c->request->record.ended_ns = nanoseconds(CLOCK_MONOTONIC);
    close(c->fd);
    free(c->in);
    free(c->out);
    uint32_t generation = c->generation + 1;
    memset(c, 0, sizeof *c);
    c->generation = generation;
}

static void keep(struct connection *c, const char *bytes, size_t length) {
    if (c->out_len + length > c->out_cap) c->out = grown(c->out, c->out_cap = 2 * (c->out_len + length));
    memcpy(c->out + c->out_len, bytes, length);
    c->out_len += length;
}

static bool send_bytes(struct connection *c, const char *bytes, size_t length) {
    if (c->out_len) {
        keep(c, bytes, length);
        return true;
    }
    ssize_t sent = send(c->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == (ssize_t)length) return true;
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        close_connection(c);
        return false;
    }
    if (sent < 0) sent = 0;
    keep(c, bytes + sent, length - sent);
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    return true;
}

static bool flush(struct connection *c) {
    ssize_t sent = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
        close_connection(c);
        return false;
    }
    memmove(c->out, c->out + sent, c->out_len -= sent);
    if (!c->out_len) {
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
        if (c->close_when_sent) {
            close_connection(c);
            return false;
        }
    }
    return true;
}

static size_t chunk(char *to, const char *format, ...) { /* one SSE event as one HTTP chunk */
    char event[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(event, sizeof event, format, arguments);
    va_end(arguments);
    return sprintf(to, "%x\r\ndata: %s\n\n\r\n", length + 8, event);
}

static void answer(struct connection *c, int status, const char *type, const char *body) {
    char head[256];
    size_t length = strlen(body);
    int head_len = snprintf(head, sizeof head,
                            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: keep-alive\r\n\r\n",
                            status, status == 200 ? "OK" : "Not Found", type, length);
    if (send_bytes(c, head, head_len)) send_bytes(c, body, length);
}

/* --- what a token looks like */

static const char *const id_prefix[2] = {"cmpl-", "chatcmpl-"};
#define HEAD(object) "{\"id\":\"%s%08x\",\"object\":\"" object "\",\"created\":1700000000,\"model\":\"%s\","

static void spell_words(void) {
    static const char *const some[SPELLINGS] = {" the", " of", " token", "ing", ",", " a", "\\n", " server", " said",
                                       " caf\\u00e9", " na\xc3\xafve", ".", " and", " which", " is", "tion"};
    for (int word = 0; word < WORDS; word++)
        for (int last = 0; last < 2; last++) {
            const char *text = word == 20 ? " \\\"quoted\\\"" : some[word % SPELLINGS], *reason = last ? "\"length\"" : "null";
            word_len[COMPLETIONS][last][word] = chunk(word_chunk[COMPLETIONS][last][word],
                HEAD("text_completion") "\"choices\":[{\"index\":0,\"text\":\"%s\",\"logprobs\":null,"
                "\"finish_reason\":%s}],\"usage\":null}", id_prefix[COMPLETIONS], 0, model, text, reason);
            word_len[CHAT][last][word] = chunk(word_chunk[CHAT][last][word],
                HEAD("chat.completion.chunk") "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},"
                "\"logprobs\":null,\"finish_reason\":%s}],\"usage\":null}", id_prefix[CHAT], 0, model, text, reason);
        }
    for (int endpoint = 0; endpoint < 2; endpoint++) /* the number stands behind: "cmpl- */
        id_at[endpoint] = strstr(word_chunk[endpoint][0][0], id_prefix[endpoint]) - word_chunk[endpoint][0][0]
                        + strlen(id_prefix[endpoint]);
}

static void put_hex(char *to, uint32_t number) {
    for (int digit = 7; digit >= 0; digit--, number >>= 4) to[digit] = "0123456789abcdef"[number & 15];
}

static unsigned long prompt_tokens(const struct request *r) {
    return serial_as_prompt_tokens ? r->record.serial : 64;
}

static bool send_end(struct connection *c, struct request *r) {
    char bytes[2048];
    size_t length = 0;
    const struct record *known = &r->record;
    if (r->usage)
        length = chunk(bytes, HEAD("%s") "\"choices\":[],\"usage\":{\"prompt_tokens\":%lu,\"completion_tokens\":%u,"
                       "\"total_tokens\":%lu}}", id_prefix[r->endpoint], (uint32_t)known->serial,
                       r->endpoint == CHAT ? "chat.completion.chunk" : "text_completion", model, prompt_tokens(r),
                       known->wanted, prompt_tokens(r) + known->wanted);
    length += chunk(bytes + length, "[DONE]");
    memcpy(bytes + length, "0\r\n\r\n", 5);
    return send_bytes(c, bytes, length + 5);
}

static bool send_whole(struct connection *c, struct request *r) { /* an answer that does not stream */
    char *text = grown(NULL, r->record.wanted * 6 + 1), *body = grown(NULL, r->record.wanted * 6 + 1024);
    for (uint32_t token = 0; token < r->record.wanted; token++) memcpy(text + token * 6, " token", 6);
    text[r->record.wanted * 6] = 0;
    const char *shape = r->endpoint == CHAT
        ? HEAD("chat.completion") "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
        : HEAD("text_completion") "\"choices\":[{\"index\":0,\"text\":\"%s\",";
    int length = sprintf(body, shape, id_prefix[r->endpoint], (uint32_t)r->record.serial, model, text);
    sprintf(body + length, "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":%lu,\"completion_tokens\":%u,"
            "\"total_tokens\":%lu}}", prompt_tokens(r), r->record.wanted, prompt_tokens(r) + r->record.wanted);
    int fd = c->fd;
    answer(c, 200, "application/json", body);
    free(text);
    free(body);
    return connections[fd].fd != 0;
}

/* --- requests */

static char *header(char *head, const char *name) {
    size_t length = strlen(name);
    for (char *line = head; (line = strstr(line, "\r\n")) && line[2] != '\r';) {
        line += 2;
        if (!strncasecmp(line, name, length) && line[length] == ':') {
            line += length + 1;
            while (*line == ' ') line++;
            return line;
        }
    }
    return NULL;
}

static const char *value_of(const char *body, size_t length, const char *quoted_key) {
    const char *found = memmem(body, length, quoted_key, strlen(quoted_key));
    if (!found) return "";
    found += strlen(quoted_key);
    while (*found == ' ' || *found == ':') found++;
    return found;
}

static bool is_true(const char *body, size_t length, const char *quoted_key) {
    return !strncmp(value_of(body, length, quoted_key), "true", 4);
}

static void begin(struct connection *c, char *head, const char *body, size_t length, enum endpoint endpoint) {
    struct request *r = calloc(1, sizeof *r);
    struct record *record = &r->record;
    unsigned long wanted = strtoul(value_of(body, length, "\"max_completion_tokens\""), NULL, 10);
    if (!wanted) wanted = strtoul(value_of(body, length, "\"max_tokens\""), NULL, 10);
    *record = (struct record){.serial = requests_len, .connection = c->number, .order = c->requests++,
                              .arrived_ns = c->stamped_ns, .read_ns = c->read_ns, .wanted = wanted ? wanted : 16};
    char *id = header(head, "x-request-id");
    if (id) memcpy(record->request_id, id, strcspn(id, "\r") < 63 ? strcspn(id, "\r") : 63);
    char *connection = header(head, "connection");
    r->close = connection && !strncasecmp(connection, "close", 5);
    r->endpoint = endpoint;
    r->streams = is_true(body, length, "\"stream\"");
    r->usage = is_true(body, length, "\"include_usage\"");
    r->at_ns = grown(NULL, sizeof(int64_t) * record->wanted);
    if (requests_len == requests_cap)
        requests = grown(requests, sizeof *requests * (requests_cap = requests_cap ? 2 * requests_cap : 4096));
    requests[requests_len++] = r;
    c->request = r;
    int64_t first_ns = record->arrived_ns + ttft_ns + (r->streams ? 0 : (record->wanted - 1) * gap_ns);
    push((struct due){first_ns, c->fd, c->generation});
    if (!r->streams) return;
    char bytes[1024];
    int size = sprintf(bytes, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                              "Connection: %s\r\nTransfer-Encoding: chunked\r\n\r\n", r->close ? "close" : "keep-alive");
    if (endpoint == CHAT)
        size += chunk(bytes + size, HEAD("chat.completion.chunk") "\"choices\":[{\"index\":0,\"delta\":{\"role\":"
                      "\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}",
                      id_prefix[CHAT], (uint32_t)record->serial, model);
    send_bytes(c, bytes, size);
}

static size_t truth_size(void) {
    size_t size = 0;
    for (size_t i = 0; i < requests_len; i++)
        size += sizeof(struct record) + sizeof(int64_t) * requests[i]->record.written;
    return size;
}

static char *truth(char *to) {
    for (size_t i = 0; i < requests_len; i++) {
        const struct request *r = requests[i];
        memcpy(to, &r->record, sizeof r->record);
        memcpy(to + sizeof r->record, r->at_ns, sizeof(int64_t) * r->record.written);
        to += sizeof r->record + sizeof(int64_t) * r->record.written;
    }
    return to;
}

static void answer_truth(struct connection *c) {
    size_t size = truth_size();
    char *bytes = grown(NULL, size + 256);
    int head = sprintf(bytes, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n", size);
    truth(bytes + head);
    send_bytes(c, bytes, head + size);
    free(bytes);
}

static void answer_get(struct connection *c, const char *path) {
    char body[1024];
    if (!strncmp(path, "/v1/models ", 11)) {
        snprintf(body, sizeof body, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1700000000,"
                 "\"owned_by\":\"mock\",\"max_model_len\":32768}]}", model);
        answer(c, 200, "application/json", body);
    } else if (!strncmp(path, "/truth ", 7)) {
        answer_truth(c);
    } else if (!strncmp(path, "/health", 7) || !strncmp(path, "/ping", 5)) {
        answer(c, 200, "application/json", "{}");
    } else if (!strncmp(path, "/version ", 9)) {
        answer(c, 200, "application/json", "{\"version\":\"0.0.0\"}");
    } else if (!strncmp(path, "/metrics ", 9)) {
        snprintf(body, sizeof body, "# TYPE mock_requests_total counter\nmock_requests_total %zu\n", requests_len);
        answer(c, 200, "text/plain; version=0.0.4", body);
    } else {
        answer(c, 404, "application/json", "{\"error\":{\"message\":\"no such path\"}}");
    }
}

/* Take the next whole request off the buffer; the one in flight must have ended. */
static void take_request(struct connection *c) {
    char *end;
    while (c->fd && !c->request && c->in_len && (end = memmem(c->in, c->in_len, "\r\n\r\n", 4))) {
        char *body = end + 4, *length_at = header(c->in, "content-length");
        size_t length = length_at ? strtoul(length_at, NULL, 10) : 0, whole = body - c->in + length;
        if (length > BODY_LIMIT) {
            close_connection(c);
            return;
        }
        if (c->in_len < whole) return;
        char after = c->in[whole];
        int fd = c->fd;
        c->in[whole] = 0;
        if (!strncmp(c->in, "POST /v1/completions ", 21)) begin(c, c->in, body, length, COMPLETIONS);
        else if (!strncmp(c->in, "POST /v1/chat/completions ", 26)) begin(c, c->in, body, length, CHAT);
        else answer_get(c, strchrnul(c->in, ' ') + 1);
        if (!connections[fd].fd) return;
        c->in[whole] = after;
        memmove(c->in, c->in + whole, c->in_len -= whole);
        c->in[c->in_len] = 0;
    }
}

static void end_request(struct connection *c) {
    struct request *r = c->request;
    r->record.ended_ns = nanoseconds(CLOCK_MONOTONIC);
    c->request = NULL;
    if (!r->close) {
        take_request(c);
    } else if (c->out_len) {
        c->close_when_sent = true;
    } else {
        close_connection(c);
    }
}

static void emit(void) { /* what stands at the top of the agenda */
    struct due next = heap[0];
    struct connection *c = &connections[next.fd];
    if (c->generation != next.generation) { /* its connection was closed meanwhile */
        drop_top();
        return;
    }
    struct request *r = c->request;
    struct record *record = &r->record;
    uint32_t token = record->written++;
    if (!r->streams) {
        drop_top();
        r->at_ns[0] = nanoseconds(CLOCK_MONOTONIC);
        if (send_whole(c, r)) end_request(c);
        return;
    }
    bool last = record->written == record->wanted;
    if (last) drop_top();
    else sink_top((struct due){next.at_ns + gap_ns, next.fd, next.generation});
    char *bytes = word_chunk[r->endpoint][last][token % WORDS];
    put_hex(bytes + id_at[r->endpoint], (uint32_t)record->serial);
    r->at_ns[token] = nanoseconds(CLOCK_MONOTONIC);
    if (send_bytes(c, bytes, word_len[r->endpoint][last][token % WORDS]) && last && send_end(c, r)) end_request(c);
}

/* --- reading */

/* CLOCK_REALTIME minus CLOCK_MONOTONIC: the tightest of a few looks, so that being put off between two readings of
 * the clocks makes no stamp wrong. */
static int64_t realtime_offset_ns(void) {
    int64_t best_ns = INT64_MAX, offset_ns = 0;
    for (int look = 0; look < 5 && best_ns > 500; look++) {
        int64_t before = nanoseconds(CLOCK_MONOTONIC), real = nanoseconds(CLOCK_REALTIME);
        int64_t after = nanoseconds(CLOCK_MONOTONIC);
        if (after - before >= best_ns) continue;
        best_ns = after - before;
        offset_ns = real - before;
    }
    return offset_ns;
}

static int64_t kernel_stamp(struct msghdr *message, int64_t read_ns) {
    for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item; item = CMSG_NXTHDR(message, item))
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(item), sizeof at);
            int64_t stamp_ns = at.tv_sec * 1000000000LL + at.tv_nsec - realtime_offset_ns();
            if (stamp_ns <= read_ns && stamp_ns > read_ns - 10000000000LL) return stamp_ns;
        }
    return read_ns;
}

static void read_some(struct connection *c) {
    if (c->in_cap - c->in_len < 4096) c->in = grown(c->in, c->in_cap = c->in_cap ? 2 * c->in_cap : 8192);
    char control[256];
    struct iovec into = {c->in + c->in_len, c->in_cap - c->in_len - 1};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(c->fd, &message, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        close_connection(c);
        return;
    }
    c->read_ns = nanoseconds(CLOCK_MONOTONIC);
    c->stamped_ns = kernel_stamp(&message, c->read_ns);
    c->in_len += got;
    c->in[c->in_len] = 0;
    take_request(c);
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FDS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        struct connection *c = &connections[fd];
        c->fd = fd;
        c->number = connections_seen++;
        watch(c, EPOLLIN, EPOLL_CTL_ADD);
    }
}

/* --- start and end */

static int compare(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void say_lateness(void) {
    size_t total = 0, count = 0;
    for (size_t i = 0; i < requests_len; i++) total += requests[i]->record.written;
    int64_t *late = grown(NULL, sizeof *late * (total + 1));
    for (size_t i = 0; i < requests_len; i++) {
        const struct record *known = &requests[i]->record;
        for (uint32_t k = 0; requests[i]->streams && k < known->written; k++)
            late[count++] = requests[i]->at_ns[k] - known->arrived_ns - ttft_ns - k * gap_ns;
    }
    qsort(late, count, sizeof *late, compare);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu_s = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    if (!count) late[count++] = 0;
    printf("{\"requests\":%zu,\"tokens\":%zu,\"late_p50_us\":%.1f,\"late_p99_us\":%.1f,\"late_max_us\":%.1f,\"cpu_s\":%.3f}\n",
           requests_len, total, late[count / 2] / 1e3, late[count * 99 / 100] / 1e3, late[count - 1] / 1e3, cpu_s);
    free(late);
}

static void write_truth(const char *path) {
    size_t size = truth_size();
    char *bytes = grown(NULL, size + 1);
    truth(bytes);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) die(path);
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (void *)&address, length) || listen(listener, 4096)) die("listen");
    getsockname(listener, (void *)&address, &length);
    printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void add_reader(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void sleep_until(int timer, int64_t at_ns) {
    struct itimerspec when = {.it_value = {at_ns / 1000000000LL, at_ns % 1000000000LL}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void serve(int listener, int timer, int signals) {
    struct epoll_event events[EVENTS];
    for (;;) {
        int64_t now_ns = nanoseconds(CLOCK_MONOTONIC);
        for (int left = TOKENS_BETWEEN_LOOKS; left && heap_len && heap[0].at_ns <= now_ns; left--) {
            emit();
            now_ns = nanoseconds(CLOCK_MONOTONIC);
        }
        int wait = -1;
        if (heap_len && heap[0].at_ns - now_ns <= spin_ns) wait = 0;
        else if (heap_len) sleep_until(timer, heap[0].at_ns - spin_ns);
        int count = epoll_wait(poller, events, EVENTS, wait);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            uint64_t expirations;
            if (fd == signals) return;
            if (fd == listener) accept_all(listener);
            else if (fd == timer) (void)!read(timer, &expirations, sizeof expirations);
            else if (connections[fd].fd) {
                bool open = !(events[i].events & EPOLLOUT) || flush(&connections[fd]);
                if (open && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_some(&connections[fd]);
            }
        }
    }
}

int main(int argc, char **argv) {
    int port = 0;
    const char *truth_path = NULL;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(name, "--serial-as-prompt-tokens")) {
            serial_as_prompt_tokens = true;
            continue;
        }
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--model")) model = value;
        else if (!strcmp(name, "--ttft-us")) ttft_ns = atoll(value) * 1000;
        else if (!strcmp(name, "--gap-us")) gap_ns = atoll(value) * 1000;
        else if (!strcmp(name, "--spin-us")) spin_ns = atoll(value) * 1000;
        else if (!strcmp(name, "--truth")) truth_path = value;
        else {
            fprintf(stderr, "mock_server: unknown option %s\n", name);
            return 2;
        }
        i++;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct rlimit files = {MAX_FDS, MAX_FDS};
    if (setrlimit(RLIMIT_NOFILE, &files)) {
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max < MAX_FDS ? files.rlim_max : MAX_FDS;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    spell_words();
    poller = epoll_create1(EPOLL_CLOEXEC);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int signals = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), listener = listen_on(port);
    add_reader(signals);
    add_reader(timer);
    add_reader(listener);
    serve(listener, timer, signals);
    if (truth_path) write_truth(truth_path);
    say_lateness();
    return 0;
}
