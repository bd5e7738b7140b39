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
#include "mock_wire.h"

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
