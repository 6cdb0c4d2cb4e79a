#include "serve/http.h"

#include <string.h>
#include <strings.h>

static const char *const field_names[VLY_HTTP_N_FIELDS] = {
    "authorization", "expect", "content-encoding", "transfer-encoding", "host"};

static vly_http_reader *reader_of(http_parser *parser)
{
    return parser->data;
}

/* For callbacks to return, which ends the parsing (1 would mean something else to it). */
static int refuse(vly_http_reader *r, int status, const char *reason)
{
    r->state = VLY_HTTP_REFUSED;
    r->status = status;
    r->reason = reason;
    return -1;
}

static int append(vly_http_reader *r, vly_text *text, const char *data, size_t n)
{
    return vly_text_append(text, data, n) ? refuse(r, 500, "out of memory") : 0;
}

/* Header fields, trailers too, count with four bytes of their own: the colon, a space, the line's
 * end. */
static int count_header(vly_http_reader *r, size_t n)
{
    r->header_bytes += n;
    if (r->header_bytes <= r->limits.header_bytes) return 0;
    return refuse(r, 431, "the request line and header fields are larger than this server takes");
}

/* ---- what the parser tells ---- */

static int on_url(http_parser *p, const char *data, size_t n)
{
    vly_http_reader *r = reader_of(p);
    r->request.method = http_method_str(p->method);
    return count_header(r, n) ? -1 : append(r, &r->request.target, data, n);
}

static int on_field(http_parser *p, const char *data, size_t n)
{
    vly_http_reader *r = reader_of(p);
    bool begins = r->in_value || r->name.len == 0;
    if (begins) r->name.len = 0;
    r->in_value = false;
    if (count_header(r, n + (begins ? 4 : 0))) return -1;
    return append(r, &r->name, data, n);
}

/* The field that was named, whose value begins. */
static int begin_value(vly_http_reader *r)
{
    r->in_value = true;
    r->current_field = -1;
    /* Some would take this for a field with another name (RFC 9112, section 5.1). */
    char last = r->name.len ? r->name.data[r->name.len - 1] : ' ';
    if (last == ' ' || last == '\t')
        return refuse(r, 400, "a header field's name has to be followed by its colon");
    if (r->state != VLY_HTTP_FIELDS) return 0; /* trailers come after what they could change */
    for (int i = 0; i < VLY_HTTP_N_FIELDS; i++)
        if (strlen(field_names[i]) == r->name.len &&
            strncasecmp(field_names[i], r->name.data, r->name.len) == 0)
            r->current_field = i;
    vly_text *value = r->current_field < 0 ? NULL : &r->request.field[r->current_field];
    return value && value->len ? append(r, value, ", ", 2) : 0;
}

static int on_value(http_parser *p, const char *data, size_t n)
{
    vly_http_reader *r = reader_of(p);
    if (!r->in_value && begin_value(r)) return -1;
    if (count_header(r, n)) return -1;
    return r->current_field < 0 ? 0 : append(r, &r->request.field[r->current_field], data, n);
}

static bool field_is(const vly_http_reader *r, vly_http_field field, const char *value)
{
    const vly_text *text = &r->request.field[field];
    return text->len == strlen(value) && strncasecmp(text->data, value, text->len) == 0;
}

/* A target may name the server too: http://HOST/PATH (RFC 9112, section 3.2.2). */
static void cut_origin(vly_text *target)
{
    static const char scheme[] = "http://";
    size_t n = sizeof scheme - 1;
    if (target->len < n || strncasecmp(target->data, scheme, n) != 0) return;
    const char *path = memchr(target->data + n, '/', target->len - n);
    target->len = path ? (size_t)(target->data + target->len - path) : 1;
    memmove(target->data, path ? path : "/", target->len);
    target->data[target->len] = '\0';
}

/* How the body comes: as it is, or in chunks. Whoever takes it for something else sees other
 * requests behind it (RFC 9112, section 6). */
static int check_transfer_encoding(vly_http_reader *r)
{
    const vly_text *codings = &r->request.field[VLY_HTTP_TRANSFER_ENCODING];
    const char *at = codings->data;
    bool chunked = false, other = false;
    if (codings->len == 0 || field_is(r, VLY_HTTP_TRANSFER_ENCODING, "chunked"))
        return codings->len && !r->request.chunks
                   ? refuse(r, 400, "HTTP/1.0 has no transfer codings")
                   : 0;
    for (const char *end = at + codings->len; at < end; at++) {
        while (at < end && strchr(", \t", *at)) at++;
        size_t n = 0;
        while (at + n < end && !strchr(", \t", at[n])) n++;
        if (chunked) return refuse(r, 400, "the one coding that is chunked has to be the last");
        chunked = n == 7 && strncasecmp(at, "chunked", n) == 0;
        other |= !chunked;
        at += n;
    }
    if (!chunked) return refuse(r, 400, "the last transfer coding has to be chunked");
    return other ? refuse(r, 501, "the only transfer coding that is understood is chunked") : 0;
}

/* It means nothing here; but that of several, who is meant depends on who reads it. */
static int check_host(vly_http_reader *r)
{
    const vly_text *host = &r->request.field[VLY_HTTP_HOST];
    for (size_t i = 0; i < host->len; i++)
        if (strchr(", \t/@", host->data[i]))
            return refuse(r, 400, "expected one Host, of a name and a port");
    return 0;
}

/* White space behind a value is none of it. */
static void trim_end(vly_text *value)
{
    while (value->len && strchr(" \t", value->data[value->len - 1]))
        value->data[--value->len] = '\0';
}

static int on_headers_complete(http_parser *p)
{
    vly_http_reader *r = reader_of(p);
    vly_http_request *q = &r->request;
    if (p->http_major != 1) return refuse(r, 505, "expected HTTP/1.1 or HTTP/1.0");
    for (int i = 0; i < VLY_HTTP_N_FIELDS; i++) trim_end(&q->field[i]);
    q->keep_alive = http_should_keep_alive(p);
    q->chunks = p->http_minor >= 1;
    if (check_transfer_encoding(r) || check_host(r)) return -1;
    cut_origin(&q->target);
    if (q->field[VLY_HTTP_CONTENT_ENCODING].len &&
        !field_is(r, VLY_HTTP_CONTENT_ENCODING, "identity"))
        return refuse(r, 415, "a body with a content encoding is not understood");
    if (q->field[VLY_HTTP_EXPECT].len && !field_is(r, VLY_HTTP_EXPECT, "100-continue"))
        return refuse(r, 417, "the only expectation that can be met is 100-continue");
    if ((p->flags & F_CONTENTLENGTH) && p->content_length > r->limits.body_bytes)
        return refuse(r, 413, "the body is larger than this server takes");
    r->state = VLY_HTTP_BODY;
    return 0;
}

static int on_chunk_header(http_parser *p)
{
    vly_http_reader *r = reader_of(p);
    if (p->content_length <= r->limits.body_bytes - r->request.body.len) return 0;
    return refuse(r, 413, "the body is larger than this server takes");
}

static int on_body(http_parser *p, const char *data, size_t n)
{
    vly_http_reader *r = reader_of(p);
    if (n > r->limits.body_bytes - r->request.body.len)
        return refuse(r, 413, "the body is larger than this server takes");
    return append(r, &r->request.body, data, n);
}

static int on_complete(http_parser *p)
{
    reader_of(p)->state = VLY_HTTP_COMPLETE;
    http_parser_pause(p, 1); /* the next request has to wait for this one's answer */
    return 0;
}

/* ---- the interface ---- */

void vly_http_reader_reset(vly_http_reader *r, const vly_http_limits *limits)
{
    http_parser_init(&r->parser, HTTP_REQUEST);
    r->parser.data = r;
    r->limits = *limits;
    r->state = VLY_HTTP_FIELDS;
    r->status = 0;
    r->reason = NULL;
    r->name.len = 0;
    r->in_value = false;
    r->header_bytes = 0;
    r->request.method = "";
    r->request.target.len = 0;
    r->request.keep_alive = r->request.chunks = false;
    for (int i = 0; i < VLY_HTTP_N_FIELDS; i++) r->request.field[i].len = 0;
    /* One large body should not be held for the rest of a connection's life. */
    if (r->request.body.cap > 65536) vly_text_free(&r->request.body);
    r->request.body.len = 0;
}

void vly_http_reader_deinit(vly_http_reader *r)
{
    vly_text_free(&r->name);
    vly_text_free(&r->request.target);
    vly_text_free(&r->request.body);
    for (int i = 0; i < VLY_HTTP_N_FIELDS; i++) vly_text_free(&r->request.field[i]);
}

size_t vly_http_reader_feed(vly_http_reader *r, const char *data, size_t n)
{
    static const http_parser_settings settings = {.on_url = on_url,
                                                  .on_header_field = on_field,
                                                  .on_header_value = on_value,
                                                  .on_headers_complete = on_headers_complete,
                                                  .on_chunk_header = on_chunk_header,
                                                  .on_body = on_body,
                                                  .on_message_complete = on_complete};
    /* To the parser no bytes are the end of the stream. */
    if (n == 0 || r->state == VLY_HTTP_COMPLETE || r->state == VLY_HTTP_REFUSED) return 0;
    size_t used = http_parser_execute(&r->parser, &settings, data, n);
    enum http_errno error = HTTP_PARSER_ERRNO(&r->parser);
    if (r->state == VLY_HTTP_COMPLETE || r->state == VLY_HTTP_REFUSED) return used;
    if (error == HPE_HEADER_OVERFLOW)
        refuse(r, 431, http_errno_description(error));
    else if (error != HPE_OK)
        refuse(r, 400, http_errno_description(error));
    return used;
}

bool vly_http_reader_expects_continue(const vly_http_reader *r)
{
    return r->state == VLY_HTTP_BODY && r->request.chunks && r->request.body.len == 0 &&
           field_is(r, VLY_HTTP_EXPECT, "100-continue");
}

const char *vly_http_status_name(int status)
{
    switch (status) {
#define STATUS(number, name, text)                                                                 \
    case number:                                                                                   \
        return #text;
        HTTP_STATUS_MAP(STATUS)
#undef STATUS
    }
    return "Unknown";
}
