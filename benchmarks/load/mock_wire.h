/* What the mock server writes: bytes to sockets, and the spelling of its tokens. */
#include "mock_state.h"

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
