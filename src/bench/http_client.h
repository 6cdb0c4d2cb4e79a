/* HTTP/1.1 requests to one server, on a libuv loop; connections are kept and used again. Where
 * interrupts are caught (vly_bench_catch_interrupt), one ends all that are under way. */
#ifndef VLY_BENCH_HTTP_CLIENT_H
#define VLY_BENCH_HTTP_CLIENT_H

#include "base/error.h"
#include "base/vec.h"

#include <uv.h>

typedef struct vly_http_client vly_http_client;

/* Where the server is: the path of a Unix socket, or ADDRESS:PORT; the other one is NULL. `key`:
 * sent as "Authorization: Bearer KEY", or NULL. Copied. VLY_E_INVALID (no address),
 * VLY_E_HOST_MEMORY. */
int vly_http_client_create(uv_loop_t *loop, const char *socket, const char *tcp, const char *key,
                           vly_http_client **out, vly_error *err);
/* What is under way ends without being told. The loop must run once more. */
void vly_http_client_destroy(vly_http_client *client);

/* What an answer's reader is told, while the loop runs. */
typedef struct {
    void (*on_body)(void *arg, const char *data, size_t n);
    /* Once, last: `failure` is NULL where the answer, of this status, came whole; else it says what
     * went wrong ("connection refused"), and the status may be 0. */
    void (*on_end)(void *arg, int status, const char *failure);
    void *arg;
} vly_http_answer;

/* Sends a request (a POST where there is a body, else a GET) that may take `timeout_s`. The body is
 * copied. VLY_E_HOST_MEMORY, VLY_E_IO. */
int vly_http_client_send(vly_http_client *client, const char *path, vly_bytes body, float timeout_s,
                         const vly_http_answer *answer, vly_error *err);

/* The same, and runs the loop until the answer is there, whose body is appended to `out`. An answer
 * that is none, or of another status than 200, is VLY_E_IO; VLY_E_CANCELLED: interrupted. */
int vly_http_client_fetch(vly_http_client *client, const char *path, vly_bytes body,
                          float timeout_s, vly_text *out, vly_error *err);

#endif
