/* Requests out of bytes: what is refused, and with which status. */
#include "serve/http.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const vly_http_limits limits = {.header_bytes = 512, .body_bytes = 64};

/* The status that the request is refused with, 200 where it was read whole and 0 where more has to
 * come; it comes in pieces of `step` bytes. */
static int read_in_steps(const char *text, size_t step, vly_http_reader *r)
{
    size_t len = strlen(text);
    vly_http_reader_reset(r, &limits);
    for (size_t at = 0; at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        size_t used = vly_http_reader_feed(r, text + at, n);
        if (r->state == VLY_HTTP_COMPLETE) return at + used == len ? 200 : -1;
        if (r->state == VLY_HTTP_REFUSED) return r->status;
        assert_int_equal(used, n);
    }
    return 0;
}

static void expect_status(int status, const char *text)
{
    vly_http_reader r = {0};
    for (size_t step = 1; step <= 1024; step = step < 4 ? step + 1 : 4 * step) {
        int got = read_in_steps(text, step, &r);
        if (got != status) print_error("%s\n%s\n", text, r.reason ? r.reason : "");
        assert_int_equal(got, status);
        assert_true(status == 200 || status == 0 || r.reason);
    }
    vly_http_reader_deinit(&r);
}

#define POST   "POST /tokenize HTTP/1.1\r\n"
#define CHUNKS "\r\n2\r\n{}\r\n0\r\n\r\n"

static void codings_of_the_transfer(void **state)
{
    (void)state;
    expect_status(200, POST "Transfer-Encoding: chunked\r\n" CHUNKS);
    expect_status(200, POST "TRANSFER-ENCODING: CHUNKED\r\n" CHUNKS);
    expect_status(501, POST "Transfer-Encoding: gzip, chunked\r\n" CHUNKS);
    expect_status(501, POST "Transfer-Encoding: gzip,chunked\r\n" CHUNKS);
    expect_status(501, POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n" CHUNKS);
    expect_status(501,
                  POST "Transfer-Encoding: gzip\r\nX: y\r\nTransfer-Encoding: chunked\r\n" CHUNKS);
    expect_status(501, POST "Transfer-Encoding: xchunked, chunked\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: chunked, gzip\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: chunked, chunked\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: gzip\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: identity\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: ,\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: chunked;q=1\r\n" CHUNKS);
    expect_status(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" CHUNKS);
}

static void lengths(void **state)
{
    (void)state;
    expect_status(200, POST "Content-Length: 2\r\n\r\n{}");
    expect_status(200, POST "\r\n");
    expect_status(0, POST "Content-Length: 3\r\n\r\n{}");
    expect_status(400, POST "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}");
    expect_status(400, POST "Content-Length: 2, 2\r\n\r\n{}");
    expect_status(400, POST "Content-Length: +2\r\n\r\n{}");
    expect_status(400, POST "Content-Length: -2\r\n\r\n{}");
    expect_status(400, POST "Content-Length:\r\n\r\n{}");
    expect_status(400, POST "Content-Length: 99999999999999999999999\r\n\r\n{}");
    expect_status(400, POST "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n" CHUNKS);
    expect_status(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n" CHUNKS);
    expect_status(413, POST "Content-Length: 65\r\n\r\n");
    expect_status(413, POST "Transfer-Encoding: chunked\r\n\r\n41\r\n");
    expect_status(413, POST "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3f\r\n");
    expect_status(400, POST "Transfer-Encoding: chunked\r\n\r\n-1\r\n");
    expect_status(400, POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n");
}

static void header_fields(void **state)
{
    (void)state;
    expect_status(200, "GET / HTTP/1.1\r\nHost: volley:80\r\n\r\n");
    expect_status(200, "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    expect_status(200, "GET / HTTP/1.1\r\nHost:\r\n\r\n");
    expect_status(200, "GET / HTTP/1.1\r\n\r\n");
    expect_status(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    expect_status(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    expect_status(400, POST "Content-Length : 2\r\n\r\n{}");
    expect_status(400, POST "X\t: 2\r\n\r\n");
    expect_status(400, "GET / HTTP/1.1\r\nno colon\r\n\r\n");
    expect_status(415, POST "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}");
    expect_status(415, POST "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n\r\n");
    expect_status(200, POST "Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}");
    expect_status(417, POST "Expect: magic\r\n\r\n");
    expect_status(200, POST "Content-Encoding: identity \t\r\nContent-Length: 2\r\n\r\n{}");
    expect_status(200, POST "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n{}");
    expect_status(505, "GET / HTTP/3.0\r\n\r\n");
}

/* A trailer changes nothing of what was said before the body. */
static void trailers_are_read_and_left(void **state)
{
    (void)state;
    vly_http_reader r = {0};
    assert_int_equal(read_in_steps("POST /a?b HTTP/1.1\r\nAuthorization: Bearer 1\r\n"
                                   "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\n"
                                   "Authorization: Bearer 2\r\nTransfer-Encoding: gzip\r\n\r\n",
                                   7, &r),
                     200);
    const vly_text *key = &r.request.field[VLY_HTTP_AUTHORIZATION];
    assert_int_equal(key->len, 8);
    assert_memory_equal(key->data, "Bearer 1", 8);
    assert_int_equal(r.request.body.len, 2);
    assert_memory_equal(r.request.body.data, "{}", 2);
    assert_int_equal(r.request.target.len, 4);
    assert_true(r.request.keep_alive);
    char large[800] = POST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ";
    memset(large + strlen(large), 'x', 600);
    assert_int_equal(read_in_steps(large, 50, &r), 431);
    vly_http_reader_deinit(&r);
}

/* A target that names the server is the path alone, also to those who read it as a string. */
static void the_origin_is_cut_off(void **state)
{
    (void)state;
    static const struct {
        const char *target, *path;
    } cases[] = {{"http://host/health", "/health"},
                 {"HTTP://host:80/v1/models?a=b", "/v1/models?a=b"},
                 {"http://host", "/"},
                 {"http://host/", "/"},
                 {"/health", "/health"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_http_reader r = {0};
        char head[128];
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\n\r\n", cases[i].target);
        assert_int_equal(read_in_steps(head, 5, &r), 200);
        assert_string_equal(r.request.target.data, cases[i].path);
        assert_int_equal(r.request.target.len, strlen(cases[i].path));
        vly_http_reader_deinit(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_origin_is_cut_off),
        cmocka_unit_test(codings_of_the_transfer),
        cmocka_unit_test(lengths),
        cmocka_unit_test(header_fields),
        cmocka_unit_test(trailers_are_read_and_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
