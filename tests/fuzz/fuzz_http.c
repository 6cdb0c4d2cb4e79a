/* Any bytes on a connection: the requests read of them are the same however they are cut, and
 * within the limits. The first byte says how they are cut. */
#include "serve/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const vly_http_limits limits = {.header_bytes = 512, .body_bytes = 256};

static void check(const vly_http_reader *r)
{
    if (r->request.body.len > limits.body_bytes || r->request.target.len > limits.header_bytes)
        abort();
    if (r->state == VLY_HTTP_REFUSED &&
        (r->status < 400 || !r->reason || strcmp(vly_http_status_name(r->status), "Unknown") == 0))
        abort();
    if (r->state == VLY_HTTP_COMPLETE && (!r->request.method[0] || !r->request.target.len)) abort();
}

static void append(vly_text *out, const void *data, size_t n)
{
    if (vly_text_append(out, data, n)) abort();
}

/* Appends what the requests in `data` are, one after the other, read `step` bytes at a time. */
static void read_all(const char *data, size_t n, size_t step, vly_text *out)
{
    vly_http_reader r = {0};
    vly_http_reader_reset(&r, &limits);
    for (size_t at = 0; at < n && r.state != VLY_HTTP_REFUSED;) {
        size_t cut = step < n - at ? step : n - at;
        size_t used = vly_http_reader_feed(&r, data + at, cut);
        if (used > cut || (used < cut && r.state < VLY_HTTP_COMPLETE)) abort();
        check(&r);
        at += used;
        if (r.state < VLY_HTTP_COMPLETE) continue;
        /* Of two faults the one that is found first may differ. */
        bool refused = r.state == VLY_HTTP_REFUSED;
        append(out, &refused, 1);
        if (refused) continue;
        append(out, r.request.method, strlen(r.request.method));
        append(out, r.request.target.data, r.request.target.len);
        append(out, r.request.body.data ? r.request.body.data : "", r.request.body.len);
        for (int i = 0; i < VLY_HTTP_N_FIELDS; i++)
            append(out, r.request.field[i].data ? r.request.field[i].data : "",
                   r.request.field[i].len);
        append(out, &r.request.keep_alive, 1);
        vly_http_reader_reset(&r, &limits);
    }
    vly_http_reader_deinit(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    vly_text whole = {0}, cut = {0};
    if (n < 2) return 0;
    read_all((const char *)data + 1, n - 1, n, &whole);
    read_all((const char *)data + 1, n - 1, 1 + data[0] % 16, &cut);
    if (whole.len != cut.len || (whole.len && memcmp(whole.data, cut.data, whole.len) != 0))
        abort();
    vly_text_free(&whole);
    vly_text_free(&cut);
    return 0;
}
