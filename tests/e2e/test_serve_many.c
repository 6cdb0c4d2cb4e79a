/* Many clients at once, many requests one after the other, and readers that are slow. */
#include "tests/support/server_fixture.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static server_fixture server;

static int stop(void **state)
{
    (void)state;
    return server_stop(&server, SIGTERM);
}

/* ---- 64 at once ---- */

enum { N_CLIENTS = 64, N_STORIES = 4 };
static const char *const prompts[N_STORIES] = {"Once upon a time", "The dog was happy because",
                                               "\"Where are you?\" asked", "Tim and Lily"};

/* What `volley run` writes for the story of this number. */
static char *run_story(int i, int n_tokens)
{
    const char *program = getenv("VOLLEY");
    char command[512], *text = calloc(1, 65536);
    assert_non_null(text);
    snprintf(command, sizeof command,
             "'%s' run --json -p '%s' --seed %d -n %d --temp 1 --top-p 1 2>/dev/null",
             program ? program : "build/release/volley", prompts[i], i + 100, n_tokens);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, 65535, pipe)] = '\0';
    assert_int_equal(pclose(pipe), 0);
    cJSON *json = cJSON_Parse(text);
    strcpy(text, cJSON_GetObjectItemCaseSensitive(json, "text")->valuestring);
    cJSON_Delete(json);
    return text;
}

static void post_story(server_client *c, int i, int n_tokens)
{
    static const char *const also[] = {"\"stream\":true",
                                       "\"stream\":false",
                                       "\"stream\":true,\"draft_max\":0",
                                       "\"stream\":true,\"draft_method\":\"ngram\"",
                                       "\"stream\":true,\"priority\":\"low\"",
                                       "\"stream\":true,\"draft_max\":2,\"priority\":\"high\""};
    cJSON *prompt = cJSON_CreateString(prompts[i % N_STORIES]);
    char *quoted = cJSON_PrintUnformatted(prompt), body[512];
    snprintf(body, sizeof body, "{\"prompt\":%s,\"seed\":%d,\"max_tokens\":%d,%s}", quoted,
             i % N_STORIES + 100, n_tokens, also[i % 6]);
    client_open(c, &server);
    client_post(c, "1.0", "/v1/completions", body);
    cJSON_free(quoted);
    cJSON_Delete(prompt);
}

/* Has n clients ask for their stories at once; each gets what `volley run` writes. */
static void tell_stories(server_client *c, int n, int n_tokens)
{
    char *expected[N_STORIES];
    for (int i = 0; i < N_STORIES; i++) expected[i] = run_story(i, n_tokens);
    kill(server.pid, SIGSTOP); /* so that all are there when it begins */
    for (int i = 0; i < n; i++) post_story(&c[i], i, n_tokens);
    kill(server.pid, SIGCONT);
    for (int i = 0; i < n; i++) {
        assert_true(client_read_end(&c[i], PATIENCE_S));
        char *story = client_story(&c[i]);
        assert_string_equal(story, expected[i % N_STORIES]);
        free(story);
        client_close(&c[i]);
    }
    for (int i = 0; i < N_STORIES; i++) free(expected[i]);
}

static void many_clients_at_once(void **state)
{
    (void)state;
    static server_client c[N_CLIENTS];
    tell_stories(c, N_CLIENTS, 30);
    server_expect_idle(&server);
}

/* ---- more than there are pages for ---- */

static void page_shortage_changes_no_text(void **state)
{
    (void)state;
    enum { N = 12 };
    static server_client c[N];
    tell_stories(c, N, 120);
    assert_true(server_metric(&server, "num_preemptions_total") > 0);
    server_expect_idle(&server);
}

/* The tokens of the last `n` completions, in the order in which the log has them. */
static void read_ends(int n, int *n_tokens)
{
    char line[1024];
    FILE *log = fopen(server.log, "r");
    assert_non_null(log);
    for (int i = 0; i < n; i++) n_tokens[i] = -1;
    while (fgets(line, sizeof line, log)) {
        const char *at = strstr(line, " completion_tokens=");
        if (!at) continue;
        memmove(n_tokens, n_tokens + 1, (size_t)(n - 1) * sizeof *n_tokens);
        n_tokens[n - 1] = atoi(strchr(at, '=') + 1);
    }
    fclose(log);
}

/* Of those that wait the high come first and the low last, else the oldest. */
static void priorities_decide_who_is_next(void **state)
{
    (void)state;
    enum { N = 6 };
    static const char *const priorities[N] = {"low", "normal", "high", "low", "normal", "high"};
    static const int order[N] = {2, 5, 1, 4, 0, 3};
    server_client c[N], first;
    char body[256];
    int n_tokens[N];
    client_open(&first, &server);
    client_post(&first, "1.0", "/v1/completions",
                "{\"prompt\":\"Once\",\"ignore_eos\":true,\"priority\":\"low\"}");
    server_wait_for(&server, "num_requests_running", 1);
    for (int i = 0; i < N; i++) {
        snprintf(body, sizeof body,
                 "{\"prompt\":\"The\",\"max_tokens\":%d,\"ignore_eos\":true,\"priority\":\"%s\"}",
                 10 + i, priorities[i]);
        client_open(&c[i], &server);
        client_post(&c[i], "1.0", "/v1/completions", body);
        server_wait_for(&server, "num_requests_waiting", i + 1);
    }
    client_close(&first); /* whose turn would not end by itself */
    for (int i = 0; i < N; i++) assert_true(client_read_end(&c[i], PATIENCE_S));
    server_expect_idle(&server);
    read_ends(N, n_tokens);
    for (int i = 0; i < N; i++) assert_int_equal(n_tokens[i], 10 + order[i]);
    for (int i = 0; i < N; i++) client_close(&c[i]);
}

/* The one that came last, with the least to read, has its answer before the second long one: so it
 * is by the parts that each step reads, whatever these take. */
static void a_short_prompt_does_not_wait_for_long_ones(void **state)
{
    (void)state;
    enum { N = 3 };
    server_client c[N];
    int n_tokens[N];
    kill(server.pid, SIGSTOP); /* so that all are there when it begins with the first */
    for (int i = 0; i < N; i++) {
        char body[8192] = "{\"cache_prompt\":false,\"ignore_eos\":true,\"prompt\":\"";
        bool is_long = i < N - 1;
        for (int k = 0; k < (is_long ? 900 : 100); k++) strcat(body, " word");
        sprintf(body + strlen(body), "\",\"max_tokens\":%d}", is_long ? 2 : 1);
        client_open(&c[i], &server);
        client_post(&c[i], "1.0", "/v1/completions", body);
    }
    kill(server.pid, SIGCONT);
    for (int i = 0; i < N; i++) {
        assert_true(client_read_end(&c[i], PATIENCE_S));
        assert_int_equal(client_status(&c[i]), 200);
        client_close(&c[i]);
    }
    server_expect_idle(&server);
    read_ends(N, n_tokens);
    assert_int_equal(n_tokens[N - 1], 2);
    assert_int_equal(n_tokens[0] + n_tokens[1], 2 + 1);
}

/* ---- 1000 in turn ---- */

/* Requests over connections that are kept, and every 20th over one that ends within its answer. */
static void ask(int n_requests)
{
    enum { N = 8 };
    static const char body[] =
        "{\"prompt\":\"The\",\"max_tokens\":2,\"draft_max\":0,\"stop\":\"zz\","
        "\"logit_bias\":{\"5\":-1},\"stream\":true}";
    server_client c[N], short_lived;
    for (int i = 0; i < N; i++) client_open(&c[i], &server);
    for (int i = 0; i < n_requests / N; i++) {
        for (int k = 0; k < N; k++) client_post(&c[k], "1.1", "/v1/completions", body);
        for (int k = 0; k < N; k++) {
            assert_true(client_read_until(&c[k], "data: [DONE]", 1, PATIENCE_S));
            c[k].len = 0;
            c[k].data[0] = '\0';
        }
        if (i % 20 != 0) continue;
        client_open(&short_lived, &server);
        client_post(&short_lived, "1.1", "/v1/completions", body);
        client_close(&short_lived);
    }
    for (int i = 0; i < N; i++) client_close(&c[i]);
    server_expect_idle(&server);
}

static double resident_mib(void)
{
    return server_metric(&server, "resident_memory_bytes") / 1048576;
}

/* A leak of a kilobyte in a request would be one of a megabyte in each round; what memory is taken
 * for good once is so in the first ones. The thread sanitizer keeps notes of what was used. */
static void memory_does_not_grow(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    const double most = 8;
#else
    const double most = 1;
#endif
    double grown = most;
    ask(200);
    for (int round = 0; round < 4 && grown >= most; round++) {
        double before = resident_mib();
        ask(1000);
        grown = resident_mib() - before;
        print_message("# resident: %.2f MiB, after 1000 requests %.2f more\n", before, grown);
    }
    assert_true(grown < most);
}

/* ---- a long body ---- */

/* It is read beside the loop: others are answered meanwhile. */
static void a_long_body_holds_nobody_up(void **state)
{
    (void)state;
    enum { LENGTH = 4000000 };
    server_client reader, other;
    char *body = malloc(LENGTH);
    int n_answered = 0;
    assert_non_null(body);
    memset(body, 'a', LENGTH);
    memcpy(body, "{\"content\":\"", 12);
    strcpy(body + LENGTH - 3, "\"}");
    client_open(&reader, &server);
    client_post(&reader, "1.0", "/tokenize", body);
    client_open(&other, &server);
    while (!client_read_until(&reader, "HTTP/1.1 200 OK", 1, 0.001)) {
        assert_false(reader.ended);
        assert_true(client_send_text(&other, "GET /health HTTP/1.1\r\n\r\n"));
        assert_true(client_read_until(&other, "{\"status\":\"ok\"}", ++n_answered, PATIENCE_S));
    }
    print_message("# %d others were answered while %d bytes were read\n", n_answered, LENGTH);
    assert_true(n_answered >= 10); /* else one would be in front of it, and the next behind it */
    client_close(&reader);
    client_close(&other);
    free(body);
    server_expect_idle(&server);
}

/* ---- slow readers ---- */

#define LONG                                                                                       \
    "{\"prompt\":\"Once\",\"seed\":5,\"max_tokens\":500,\"ignore_eos\":true,\"stream\":true,"      \
    "\"logprobs\":%d}"

static void a_slow_reader_pauses_alone(void **state)
{
    (void)state;
    server_client slow, quick;
    char body[256];
    snprintf(body, sizeof body, LONG, 20);
    client_open(&slow, &server);
    client_post(&slow, "1.0", "/v1/completions", body);
    server_wait_for(&server, "num_requests_paused", 1);
    client_open(&quick, &server);
    client_post(&quick, "1.0", "/v1/completions",
                "{\"prompt\":\"Once\",\"seed\":5,\"max_tokens\":60,\"ignore_eos\":true}");
    assert_true(client_read_end(&quick, PATIENCE_S));
    assert_int_equal(client_status(&quick), 200);
    assert_int_equal(server_metric(&server, "num_requests_paused"), 1);
    /* The slow one reads on and misses nothing. */
    assert_true(client_read_until(&slow, "data: [DONE]", 1, PATIENCE_S));
    char *a = client_story(&slow), *b = client_story(&quick);
    assert_true(strlen(a) > strlen(b));
    assert_memory_equal(a, b, strlen(b));
    assert_non_null(strstr(slow.data, "\"predicted_n\":500,"));
    free(a);
    free(b);
    client_close(&slow);
    client_close(&quick);
    server_expect_idle(&server);
}

static void a_reader_that_stopped_is_cut_off(void **state)
{
    (void)state;
    server_client c;
    char body[256];
    snprintf(body, sizeof body, LONG, 20);
    client_open(&c, &server);
    client_post(&c, "1.0", "/v1/completions", body);
    server_wait_for(&server, "requests_total{outcome=\"cancelled\"}", 1);
    assert_true(client_read_end(&c, PATIENCE_S));
    assert_null(strstr(c.data, "[DONE]"));
    client_close(&c);
    server_expect_idle(&server);
}

static void an_answer_takes_no_longer_than_allowed(void **state)
{
    (void)state;
    enum { N = 40 };
    static server_client c[N];
    for (int i = 0; i < N; i++) {
        client_open(&c[i], &server);
        client_post(&c[i], "1.0", "/v1/completions",
                    i % 2 ? "{\"prompt\":\"Once\",\"ignore_eos\":true,\"stream\":true}"
                          : "{\"prompt\":\"Once\",\"ignore_eos\":true}");
    }
    for (int i = 0; i < N; i++) {
        assert_true(client_read_end(&c[i], PATIENCE_S));
        assert_non_null(strstr(c[i].data, "\"code\":\"timeout\""));
        assert_true(client_status(&c[i]) == 504 ||
                    (strstr(c[i].data, "data: {\"error\":") && client_status(&c[i]) == 200));
        assert_null(strstr(c[i].data, "[DONE]"));
    }
    for (int i = 0; i < N; i++) client_close(&c[i]);
    server_expect_idle(&server);
}

/* ---- the servers ---- */

/* The prestate of a test is its server's options. */
static int start(void **state)
{
    server_start(&server, *state, -1);
    return 0;
}

#define LONG_TEXTS "-m", "tests/models/smol-stories-11M-f16.gguf", "-d", "none"

static const char *pair[] = {"--parallel", "16", "--queue", "64", NULL};
static const char *few_pages[] = {"--parallel", "8", "--kv-memory", "2M", NULL};
static const char *single[] = {"-m", ENDLESS_MODEL, "--parallel", "1", NULL};
/* Nothing but what the test does may end an answer, on however slow a machine. */
static const char *patient[] = {LONG_TEXTS, "--max-buffered",    "4096", "--write-timeout",
                                "0",        "--request-timeout", "0",    NULL};
static const char *cutting[] = {LONG_TEXTS, "--max-buffered",    "4096", "--write-timeout",
                                "1",        "--request-timeout", "0",    NULL};
static const char *hurried[] = {"-m", ENDLESS_MODEL, "--request-timeout", "1", NULL};

#define TEST(test, options) cmocka_unit_test_prestate_setup_teardown(test, start, stop, options)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(many_clients_at_once, pair),
        TEST(memory_does_not_grow, pair),
        TEST(a_long_body_holds_nobody_up, pair),
        TEST(page_shortage_changes_no_text, few_pages),
        TEST(priorities_decide_who_is_next, single),
        TEST(a_short_prompt_does_not_wait_for_long_ones, patient),
        TEST(a_slow_reader_pauses_alone, patient),
        TEST(a_reader_that_stopped_is_cut_off, cutting),
        TEST(an_answer_takes_no_longer_than_allowed, hurried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
