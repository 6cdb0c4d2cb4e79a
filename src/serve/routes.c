/* Which request is answered by what. */
#include "serve/server.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct {
    const char *path;   /* one that ends in '*' stands for all that begin like it */
    const char *method; /* "GET" stands for "HEAD" too */
    void (*answer)(vly_connection *connection);
    bool needs_engine; /* answered with 503 while it is loaded */
    bool open;         /* to those without a key too */
} route;

static const route routes[] = {
    {"/health", "GET", vly_answer_health, false, true},
    {"/metrics", "GET", vly_answer_metrics, false, false},
    {"/props", "GET", vly_answer_props, true, false},
    {"/v1/models", "GET", vly_answer_models, true, false},
    {"/v1/models/*", "GET", vly_answer_model, true, false},
    {"/v1/completions", "POST", vly_completion_start, true, false},
    {"/v1/chat/completions", "POST", vly_chat_completion_start, true, false},
    {"/tokenize", "POST", vly_answer_tokenize, true, false},
    {"/detokenize", "POST", vly_answer_detokenize, true, false},
    {"/apply-template", "POST", vly_answer_apply_template, true, false},
};
#define N_ROUTES (sizeof routes / sizeof *routes)

static const route *find(const char *path, size_t len)
{
    for (const route *r = routes; r < routes + N_ROUTES; r++) {
        size_t n = strlen(r->path);
        bool prefix = r->path[n - 1] == '*';
        if (prefix ? len >= n && memcmp(r->path, path, n - 1) == 0
                   : len == n && memcmp(r->path, path, n) == 0)
            return r;
    }
    return NULL;
}

/* Equal, in a time that does not tell where they differ. */
static bool same_secret(const char *a, size_t n_a, const char *b, size_t n_b)
{
    unsigned char difference = n_a != n_b;
    for (size_t i = 0; i < n_a; i++) difference |= (unsigned char)(a[i] ^ b[n_b ? i % n_b : 0]);
    return difference == 0;
}

/* Has the request brought one of the keys ("Authorization: Bearer KEY"), where one is asked for? */
static bool has_key(const vly_server *server, const vly_http_request *request)
{
    static const char scheme[] = "Bearer ";
    const vly_text *field = &request->field[VLY_HTTP_AUTHORIZATION];
    size_t n = sizeof scheme - 1;
    if (server->keys.len == 0) return true;
    if (field->len < n || strncasecmp(field->data, scheme, n) != 0) return false;
    while (n < field->len && field->data[n] == ' ') n++;
    bool found = false;
    for (size_t at = 0; at < server->keys.len;) {
        const char *key = server->keys.data + at;
        found |= same_secret(field->data + n, field->len - n, key, strlen(key));
        at += strlen(key) + 1;
    }
    return found;
}

static bool takes_method(const route *r, const char *method)
{
    return strcmp(r->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

/* Another method than the one that the path takes: OPTIONS asks for which it is. */
static void answer_method(vly_connection *c, const route *r)
{
    const char *method = c->reader.request.method;
    vly_api_error err;
    vly_writer body = {0};
    char fields[40];
    bool asks = strcmp(method, "OPTIONS") == 0;
    if (!asks) {
        vly_api_fail(&err, 405, "method_not_allowed", NULL, "%s is to be requested with %s, not %s",
                     r->path, r->method, method);
        vly_api_error_write(&err, &body);
    }
    snprintf(fields, sizeof fields, "Allow: %s, OPTIONS\r\n",
             takes_method(r, "HEAD") ? "GET, HEAD" : r->method);
    vly_reply(c, asks ? 200 : err.status, "application/json", &body, fields);
    vly_text_free(&body.text);
}

void vly_route(vly_connection *c)
{
    const vly_server *server = c->server;
    const vly_http_request *q = &c->reader.request;
    const char *query = q->target.len ? memchr(q->target.data, '?', q->target.len) : NULL;
    size_t len = query ? (size_t)(query - q->target.data) : q->target.len;
    const route *r = find(q->target.data, len);
    vly_api_error err;
    if (!r) {
        vly_api_fail(&err, 404, "unknown_url", NULL, "there is no %s %.*s", q->method,
                     (int)(len < 256 ? len : 256), q->target.data ? q->target.data : "");
        vly_reply_error(c, &err);
    } else if (!r->open && !has_key(server, q)) {
        vly_api_fail(&err, 401, "invalid_api_key", NULL,
                     "expected a header field 'Authorization: Bearer KEY' with a key of this "
                     "server's");
        vly_reply_error(c, &err);
    } else if (!takes_method(r, q->method)) {
        answer_method(c, r);
    } else if (r->needs_engine && server->state != VLY_SERVER_READY) {
        vly_api_fail(&err, 503, NULL, NULL, "%s",
                     server->state == VLY_SERVER_LOADING ? "the models are being loaded"
                     : server->failure.code              ? server->failure.message
                                                         : "the server is about to end");
        vly_reply_error(c, &err);
    } else {
        r->answer(c);
    }
}
