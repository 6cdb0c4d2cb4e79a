/* Clients that misbehave, and many at once: what others are told does not change, and afterwards
 * nothing is held. */
#include "tests/support/server_fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static server_fixture server;

/* ---- one that behaves, while others do not ---- */

#define STORY                                                                                      \
    "{\"prompt\":\"Once upon a "                                                                   \
    "time\",\"temperature\":0.8,\"seed\":11,\"stream\":true,\"max_tokens\":140}"
static char *expected_story;
static server_client witness;

static void begin_witness(void)
{
    client_open(&witness, &server);
    client_post(&witness, "1.0", "/v1/completions", STORY);
    assert_true(client_read_until(&witness, "data: ", 2, PATIENCE_S));
}

static void expect_witness(void)
{
    assert_true(client_read_end(&witness, PATIENCE_S));
    assert_non_null(strstr(witness.data, "data: [DONE]"));
    char *story = client_story(&witness);
    assert_string_equal(story, expected_story);
    free(story);
    client_close(&witness);
    server_expect_idle(&server);
}

static int start(const char *const *options)
{
    server_start(&server, options, -1);
    client_open(&witness, &server);
    client_post(&witness, "1.0", "/v1/completions", STORY);
    assert_true(client_read_end(&witness, PATIENCE_S));
    expected_story = client_story(&witness);
    assert_true(strlen(expected_story) > 200);
    client_close(&witness);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    free(expected_story);
    return server_stop(&server, SIGTERM);
}

/* Sends `text` and expects the connection to end with an answer of `status`. */
static void expect_refusal(const char *text, int status)
{
    server_client c;
    client_open(&c, &server);
    client_send_text(&c, text);
    if (!client_read_end(&c, PATIENCE_S) || client_status(&c) != status)
        fail_msg("expected %d and the end, got %d for: %.60s", status, client_status(&c), text);
    client_close(&c);
}

/* ---- going away ---- */

static void post_story(server_client *c, const char *body)
{
    client_open(c, &server);
    client_post(c, "1.0", "/v1/completions", body);
}

#define ENDLESS_STORY "{\"prompt\":\"The cat\",\"seed\":1,\"ignore_eos\":true,\"stream\":true}"

static void clients_that_go_away(void **state)
{
    (void)state;
    server_client c[4];
    for (int i = 0; i < 3; i++) { /* before anything, within the header, within the body */
        static const char *const parts[] = {"", "POST /v1/compl",
                                            ("POST /v1/completions HTTP/1.1\r\n"
                                             "Content-Length: 50\r\n\r\n{")};
        client_open(&c[0], &server);
        client_send_text(&c[0], parts[i]);
        client_close(&c[0]);
    }
    /* Three run, one waits, and the witness behind it. One of each goes at once, the others while
     * streaming. */
    for (int i = 0; i < 4; i++) {
        post_story(&c[i], ENDLESS_STORY);
        server_wait_for(&server, i < 3 ? "num_requests_running" : "num_requests_waiting",
                        i < 3 ? i + 1 : 1);
    }
    post_story(&witness, STORY);
    server_wait_for(&server, "num_requests_waiting", 2);
    client_close(&c[3]);
    client_close(&c[0]);
    assert_true(client_read_until(&c[1], "data: ", 3, PATIENCE_S));
    assert_true(client_read_until(&c[2], "data: ", 2, PATIENCE_S));
    client_close(&c[1]);
    client_close(&c[2]);
    expect_witness();
    assert_true(server_metric(&server, "requests_total{outcome=\"cancelled\"}") == 4);
}

static void a_prompt_whose_client_went_away_ends(void **state)
{
    (void)state;
    char prompt[1400] = "{\"max_tokens\":1,\"prompt\":\"";
    server_client c;
    for (int i = 0; i < 200; i++) strcat(prompt, " word");
    strcat(prompt, "\"}");
    begin_witness();
    for (int i = 0; i < 5; i++) {
        client_open(&c, &server);
        client_post(&c, "1.1", "/v1/completions", prompt);
        client_close(&c);
    }
    expect_witness();
}

static void half_closed_is_answered(void **state)
{
    (void)state;
    server_client c;
    begin_witness();
    client_open(&c, &server);
    client_post(&c, "1.1", "/v1/completions", "{\"prompt\":\"The cat\",\"max_tokens\":5}");
    shutdown(c.fd, SHUT_WR);
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_int_equal(client_status(&c), 200);
    client_close(&c);
    client_open(&c, &server);
    client_send_text(&c, "POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{");
    shutdown(c.fd, SHUT_WR);
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_int_equal(client_status(&c), 400);
    client_close(&c);
    /* The same behind a request that is answered first. */
    client_open(&c, &server);
    client_post(&c, "1.1", "/v1/completions", "{\"prompt\":\"The cat\",\"max_tokens\":5}");
    client_send_text(&c, "POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{");
    shutdown(c.fd, SHUT_WR);
    assert_true(client_read_until(&c, "HTTP/1.1 200 OK", 1, PATIENCE_S));
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_int_equal(client_status(&c), 400);
    client_close(&c);
    expect_witness();
}

/* ---- too large, malformed ---- */

static void oversized_and_malformed(void **state)
{
    (void)state;
    char large[4096] = "GET /health HTTP/1.1\r\nX: ";
    memset(large + strlen(large), 'x', 3000);
    begin_witness();
    expect_refusal(large, 431);
    memset(large, 'x', 3000);
    memcpy(large, "GET /", 5);
    expect_refusal(large, 431);
    expect_refusal("POST /v1/completions HTTP/1.1\r\nContent-Length: 70000\r\n\r\n", 413);
    expect_refusal("POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                   400);
    expect_refusal("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11000\r\n",
                   413); /* before the chunk has come */
    expect_refusal("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                   501);
    expect_refusal("POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n",
                   400);
    expect_refusal("GET /health HTTP/3.0\r\n\r\n", 505);
    expect_refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400);
    expect_refusal("hello\r\n\r\n", 400);
    expect_refusal("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400);
    expect_refusal("POST /v1/completions HTTP/1.1\r\nContent-Encoding: gzip\r\n"
                   "Content-Length: 2\r\n\r\n{}",
                   415);
    expect_refusal("POST /v1/completions HTTP/1.1\r\nExpect: magic\r\n\r\n", 417);
    expect_refusal("POST /v1/completions HTTP/1.0\r\nContent-Length: 6\r\n\r\n{\"pro\xff", 400);
    expect_witness();
}

/* Bodies that are read in a thread: of clients that wait, that go away meanwhile, and whose prompt
 * is too long. */
static void long_bodies(void **state)
{
    (void)state;
    enum { LONG = 60000 };
    char *body = calloc(1, LONG + 100);
    server_client c[8];
    begin_witness();
    for (int round = 0; round < 12; round++) {
        const char *path = round % 3 == 0 ? "/tokenize" : "/v1/completions";
        sprintf(body, "{\"%s\":\"", round % 3 == 0 ? "content" : "prompt");
        size_t n = strlen(body), len = round % 3 == 2 ? LONG / 2 : 200;
        memset(body + n, 'a', len);
        strcpy(body + n + len, "\",\"max_tokens\":1,\"stop\":[\"b\"],\"unknown\":\"");
        memset(body + strlen(body), 'c', LONG - strlen(body));
        strcpy(body + LONG, "\"}");
        for (int i = 0; i < 8; i++) {
            client_open(&c[i], &server);
            client_post(&c[i], "1.1", path, body);
        }
        for (int i = 0; i < 8; i++) {
            if (i % 2) {
                assert_true(client_read_until(&c[i], "}", 1, PATIENCE_S));
                int status = client_status(&c[i]);
                if (round % 3 == 0) assert_int_equal(status, 200);
                if (round % 3 == 1) assert_true(status == 200 || status == 429);
                if (round % 3 == 2) assert_int_equal(status, 400);
            }
            client_close(&c[i]);
        }
    }
    free(body);
    expect_witness();
}

static void a_body_in_chunks(void **state)
{
    (void)state;
    server_client c;
    client_open(&c, &server);
    client_send_text(&c, "POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
                         "Connection: close\r\n\r\n");
    client_send_text(&c, "5\r\n{\"con\r\nb\r\ntent\":\"a\"} \r\n0\r\nX: trailer\r\n\r\n");
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_int_equal(client_status(&c), 200);
    client_close(&c);
}

static void continue_is_said(void **state)
{
    (void)state;
    server_client c;
    client_open(&c, &server);
    client_send_text(&c, "POST /tokenize HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n"
                         "Content-Length: 15\r\n\r\n");
    assert_true(client_read_until(&c, "HTTP/1.1 100 Continue\r\n\r\n", 1, PATIENCE_S));
    client_send_text(&c, "{\"content\":\"a\"}");
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_int_equal(client_status(&c), 200);
    client_close(&c);
}

/* ---- slow ---- */

static void drip_fed(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "GET /", "POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"};
    begin_witness();
    for (int i = 0; i < 2; i++) {
        server_client c;
        client_open(&c, &server);
        client_send_text(&c, parts[i]);
        /* A byte now and then does not put it off. */
        for (int n = 0; n < 60 && client_send_text(&c, "x") && !client_read_end(&c, 0.1); n++)
            continue;
        assert_true(client_read_end(&c, PATIENCE_S));
        assert_int_equal(client_status(&c), 408);
        client_close(&c);
    }
    expect_witness();
}

static void idle_connections_end(void **state)
{
    (void)state;
    server_client c;
    client_open(&c, &server);
    client_send_text(&c, "GET /health HTTP/1.1\r\n\r\n");
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_int_equal(client_status(&c), 200);
    client_close(&c);
}

/* ---- pipelined ---- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { N = 200 };
    char *all = calloc(N, 160), expected[64];
    server_client c;
    assert_non_null(all);
    begin_witness();
    for (int i = 0; i < N; i++) {
        char body[64];
        snprintf(body, sizeof body, "{\"tokens\":[%d]}", 300 + i);
        sprintf(all + strlen(all), "POST /detokenize HTTP/1.1\r\nContent-Length: %zu\r\n%s\r\n%s",
                strlen(body), i == N - 1 ? "Connection: close\r\n" : "", body);
        if (i == 5) /* one that takes its time */
            strcat(all, "POST /v1/completions HTTP/1.1\r\nContent-Length: 32\r\n\r\n"
                        "{\"prompt\":\"Once\",\"max_tokens\":4}");
    }
    client_open(&c, &server);
    assert_true(client_send_text(&c, all));
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_true(client_read_until(&c, "HTTP/1.1 200 OK", N + 1, 0));
    const char *at = c.data;
    for (int i = 0; i < N; i++) {
        server_client one;
        client_open(&one, &server);
        snprintf(expected, sizeof expected, "{\"tokens\":[%d]}", 300 + i);
        client_post(&one, "1.0", "/detokenize", expected);
        assert_true(client_read_end(&one, PATIENCE_S));
        at = strstr(at, strstr(one.data, "\r\n\r\n") + 4);
        if (!at) fail_msg("answer %d is missing or comes too early", i);
        client_close(&one);
    }
    client_close(&c);
    free(all);
    expect_witness();
}

/* HEAD has no body, and a target may name the server: the next answer follows at once. */
static void unusual_requests_keep_the_order(void **state)
{
    (void)state;
    server_client c;
    client_open(&c, &server);
    assert_true(client_send_text(&c, "HEAD /health HTTP/1.1\r\n\r\n"
                                     "OPTIONS /v1/completions HTTP/1.1\r\n\r\n\r\n"
                                     "GET HTTP://volley:80/health?x HTTP/1.1\r\n\r\n"
                                     "GET http://volley HTTP/1.0\r\n\r\n"));
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_true(client_read_until(&c, "HTTP/1.1 200 OK\r\n", 3, 0));
    assert_non_null(strstr(c.data, "Content-Length: 15\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(c.data, "{\"status\":\"ok\"}HTTP/1.1 404 "));
    client_close(&c);
}

/* ---- too many ---- */

static void a_client_has_its_share_of_connections(void **state)
{
    (void)state;
    server_client c[20], more;
    for (int i = 0; i < 20; i++) {
        client_open(&c[i], &server);
        client_send_text(&c[i], "GET /health HTTP/1.1\r\n\r\n");
        assert_true(client_read_until(&c[i], "{\"status\":\"ok\"}", 1, PATIENCE_S));
    }
    client_open(&more, &server);
    assert_true(client_read_end(&more, PATIENCE_S));
    assert_int_equal(client_status(&more), 429);
    client_close(&more);
    for (int i = 0; i < 20; i++) client_close(&c[i]);
    server_expect_idle(&server);
}

static void a_full_queue_is_refused(void **state)
{
    (void)state;
    server_client running[3], waiting[2], more;
    for (int i = 0; i < 3; i++) post_story(&running[i], ENDLESS_STORY);
    server_wait_for(&server, "num_requests_running", 3);
    for (int i = 0; i < 2; i++) {
        post_story(&waiting[i], "{\"prompt\":\"Once upon a time\",\"max_tokens\":5}");
        server_wait_for(&server, "num_requests_waiting", i + 1);
    }
    post_story(&more, STORY);
    assert_true(client_read_end(&more, PATIENCE_S));
    assert_int_equal(client_status(&more), 429);
    assert_non_null(strstr(more.data, "\r\nRetry-After: "));
    client_close(&more);
    for (int i = 0; i < 3; i++) client_close(&running[i]);
    for (int i = 0; i < 2; i++) {
        assert_true(client_read_end(&waiting[i], PATIENCE_S));
        assert_int_equal(client_status(&waiting[i]), 200);
        client_close(&waiting[i]);
    }
    server_expect_idle(&server);
}

/* ---- a socket from systemd ---- */

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 10), 0);
    return fd;
}

static void a_passed_socket_is_served_and_left(void **state)
{
    (void)state;
    server_fixture passed = {.folder = "/tmp/volley-test-XXXXXX"};
    server_client early;
    assert_non_null(mkdtemp(passed.folder));
    snprintf(passed.socket, sizeof passed.socket, "%s/v.sock", passed.folder);
    snprintf(passed.log, sizeof passed.log, "%s/log", passed.folder);
    int fd = listen_at(passed.socket);
    /* Who came before the server is answered by it. */
    client_open(&early, &passed);
    assert_true(client_send_text(&early, "GET /health HTTP/1.0\r\n\r\n"));
    server_start(&passed, NULL, fd);
    assert_true(client_read_end(&early, PATIENCE_S));
    assert_int_not_equal(client_status(&early), 0);
    client_close(&early);
    kill(passed.pid, SIGTERM);
    waitpid(passed.pid, NULL, 0);
    /* The socket is systemd's: the next server goes on with it. */
    assert_int_equal(access(passed.socket, F_OK), 0);
    server_start(&passed, NULL, fd);
    close(fd);
    assert_int_equal(server_stop(&passed, SIGTERM), 0);
}

/* ---- the servers ---- */

#define FEW_AT_ONCE "--parallel", "3", "--queue", "2"

static const char *const pair[] = {FEW_AT_ONCE, "--max-header",           "2048", "--max-body",
                                   "65536",     "--max-peer-connections", "20",   NULL};
static const char *const hurried[] = {FEW_AT_ONCE, "--header-timeout", "2", "--body-timeout",
                                      "2",         "--idle-timeout",   "3", NULL};
/* Nobody who reads slowly makes room for others here. */
static const char *const endless[] = {FEW_AT_ONCE,      "-m", ENDLESS_MODEL,
                                      "--max-buffered", "1G", NULL};

static int start_pair(void **state)
{
    (void)state;
    return start(pair);
}

static int start_hurried(void **state)
{
    (void)state;
    return start(hurried);
}

static int start_endless(void **state)
{
    (void)state;
    return start(endless);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_whose_client_went_away_ends),
        cmocka_unit_test(half_closed_is_answered),
        cmocka_unit_test(oversized_and_malformed),
        cmocka_unit_test(long_bodies),
        cmocka_unit_test(a_body_in_chunks),
        cmocka_unit_test(continue_is_said),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(unusual_requests_keep_the_order),
        cmocka_unit_test(a_client_has_its_share_of_connections),
        cmocka_unit_test(a_passed_socket_is_served_and_left),
    };
    const struct CMUnitTest of_time[] = {
        cmocka_unit_test(drip_fed),
        cmocka_unit_test(idle_connections_end),
    };
    const struct CMUnitTest of_endless_texts[] = {
        cmocka_unit_test(clients_that_go_away),
        cmocka_unit_test(a_full_queue_is_refused),
    };
    return cmocka_run_group_tests(tests, start_pair, stop) +
           cmocka_run_group_tests(of_time, start_hurried, stop) +
           cmocka_run_group_tests(of_endless_texts, start_endless, stop);
}
