/* HTTP requests out of a stream of bytes: http-parser with limits. Knows no sockets. */
#ifndef VLY_SERVE_HTTP_H
#define VLY_SERVE_HTTP_H

#include "base/error.h"
#include "base/vec.h"

#include <http_parser.h>

typedef struct {
    size_t header_bytes; /* of the request line and all header fields, trailers included */
    size_t body_bytes;
} vly_http_limits;

/* The header fields that mean something here. */
typedef enum {
    VLY_HTTP_AUTHORIZATION,
    VLY_HTTP_EXPECT,
    VLY_HTTP_CONTENT_ENCODING,
    VLY_HTTP_TRANSFER_ENCODING,
    VLY_HTTP_HOST,
    VLY_HTTP_N_FIELDS
} vly_http_field;

/* A request as far as it has been read. */
typedef struct {
    const char *method; /* "GET"; static */
    vly_text target;    /* the path with its query, as sent but for http://HOST before it */
    vly_text field[VLY_HTTP_N_FIELDS]; /* of those that come again the values, ", " between them */
    vly_text body;
    bool keep_alive;
    bool chunks; /* the client understands chunked answers: HTTP/1.1 */
} vly_http_request;

typedef enum {
    VLY_HTTP_FIELDS, /* reading the request line and the header fields */
    VLY_HTTP_BODY,
    VLY_HTTP_COMPLETE,
    VLY_HTTP_REFUSED /* `status` and `reason` say why; nothing more can be read */
} vly_http_state;

typedef struct {
    http_parser parser;
    vly_http_limits limits;
    vly_http_state state;
    vly_http_request request;
    int status;         /* the HTTP status of a refusal: 400, 413, 415, 417, 431, 500, 501, 505 */
    const char *reason; /* static */
    vly_text name;      /* of the field being read */
    bool in_value;
    int current_field; /* a vly_http_field, or -1 */
    size_t header_bytes;
} vly_http_reader;

/* For the first request, and for each further one: what was read is gone, memory is kept. */
void vly_http_reader_reset(vly_http_reader *reader, const vly_http_limits *limits);
void vly_http_reader_deinit(vly_http_reader *reader);

/* Reads up to the end of one request, and returns how many of the `n` bytes that took: fewer than
 * `n` only where the state is COMPLETE or REFUSED. */
size_t vly_http_reader_feed(vly_http_reader *reader, const char *data, size_t n);

/* Does the client wait for "100 Continue" before it sends the body? */
bool vly_http_reader_expects_continue(const vly_http_reader *reader);

/* "Not Found" for 404. */
const char *vly_http_status_name(int status);

#endif
