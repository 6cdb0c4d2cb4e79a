/* volley serve: answers requests over HTTP. */
#include "serve/serve.h"

#include "base/log.h"
#include "cli/cli.h"
#include "cli/generate.h"

#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the command line says. It begins with the options that commands with models share. */
typedef struct {
    vly_cli_options models;
    vly_serve_options serve;
    uint32_t n_parallel, n_queued;
    uint64_t kv_bytes;
} options;

/* ---- values ---- */

/* "65536", "64K", "1M", "2G": up to 2^53. */
static int parse_size(const char *text, uint64_t *out)
{
    char digits[24];
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n >= sizeof digits) return -1;
    memcpy(digits, text, n);
    digits[n] = '\0';
    int shift = text[n] == '\0'                    ? 0
                : text[n] == 'K' || text[n] == 'k' ? 10
                : text[n] == 'M' || text[n] == 'm' ? 20
                : text[n] == 'G' || text[n] == 'g' ? 30
                                                   : -1;
    if (shift < 0 || (shift && text[n + 1])) return -1;
    if (vly_cli_parse_u64(digits, 0, (UINT64_C(1) << 53) >> shift, out)) return -1;
    *out <<= shift;
    return 0;
}

static int parse_bytes(const vly_option_row *row, const char *text, void *o)
{
    uint64_t bytes;
    if (parse_size(text, &bytes) || bytes < (uint64_t)row->min || bytes > (uint64_t)row->max)
        return -1;
    *(uint32_t *)vly_option_field(row, o) = (uint32_t)bytes;
    return 0;
}

static int parse_kv_memory(const vly_option_row *row, const char *text, void *o)
{
    (void)row;
    uint64_t *bytes = &((options *)o)->kv_bytes;
    *bytes = 0;
    if (strcmp(text, "auto") == 0) return 0;
    return parse_size(text, bytes) || *bytes == 0 ? -1 : 0;
}

static int parse_mode(const vly_option_row *row, const char *text, void *o)
{
    (void)row;
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (text[0] < '0' || text[0] > '7' || *end || mode > 0777) return -1;
    ((options *)o)->serve.socket_mode = (uint32_t)mode;
    return 0;
}

static int parse_log(const vly_option_row *row, const char *text, void *o)
{
    (void)row;
    if (strcmp(text, "json") != 0 && strcmp(text, "text") != 0) return -1;
    ((options *)o)->serve.log_json = text[0] == 'j';
    return 0;
}

static const vly_option_type bytes_type = {.parse = parse_bytes,
                                           .expected =
                                               "a number of bytes, with K or M behind it or not",
                                           .ranged = true,
                                           .whole = true};
static const vly_option_type kv_memory_type = {
    .parse = parse_kv_memory,
    .expected = "a number of bytes above 0, with K, M or G behind it or not, or auto"};
static const vly_option_type mode_type = {.parse = parse_mode,
                                          .expected = "permissions in octal, 0 to 0777"};
static const vly_option_type log_type = {.parse = parse_log, .expected = "json or text"};

/* ---- the options ---- */

#define MODEL(field) offsetof(options, models.field)
#define SERVE(field) offsetof(options, serve.field)
#define AT(field)    offsetof(options, field)
#define MAX_S        1e6
#define TEXT         &vly_option_text
#define COUNT        &vly_option_count
#define REAL         &vly_option_real

static const vly_option_row rows[] = {
    {1, 0, "socket", NULL, "PATH", TEXT, SERVE(socket), 0, 0, "listen on this Unix socket"},
    {1, 0, "socket-mode", NULL, "MODE", &mode_type, 0, 0, 0,
     "permissions of the socket, in octal (default 0600)"},
    {1, 0, "tcp", NULL, "[ADDRESS:]PORT", TEXT, SERVE(tcp), 0, 0,
     "listen on this address too, 127.0.0.1 where none is given; addresses that other machines "
     "reach need --api-key-file"},
    {1, 0, "api-key-file", NULL, "FILE", TEXT, SERVE(api_key_file), 0, 0,
     "take requests only with 'Authorization: Bearer KEY', KEY being a line of FILE"},
    {1, 'm', "model", NULL, "TARGET", TEXT, MODEL(target), 0, 0, VLY_HELP_TARGET},
    {1, 'd', "draft", NULL, "DRAFT", TEXT, MODEL(draft), 0, 0, VLY_HELP_DRAFT},
    {1, 0, "chat-template", NULL, "NAME|FILE", TEXT, MODEL(chat_template), 0, 0, VLY_HELP_TEMPLATE},
    {1, 'c', "ctx", "ctx-size", "N", COUNT, MODEL(n_ctx), 0, VLY_OPTION_MAX_COUNT,
     "tokens of prompt and text of a request at most; 0: the target's own number, or as many as "
     "fit the device"},
    {1, 0, "parallel", NULL, "N", COUNT, AT(n_parallel), 1, VLY_MAX_PARALLEL,
     "requests that are worked on at a time"},
    {1, 0, "queue", NULL, "N", COUNT, AT(n_queued), 0, 1e6,
     "further requests that wait for their turn; beyond that they are refused with 429"},
    {1, 0, "kv-memory", NULL, "BYTES|auto", &kv_memory_type, 0, 0, 0,
     "device memory for the caches; auto: what --parallel contexts need, or what the device has "
     "left"},
    {1, 0, "kv", NULL, "int8|f16", &vly_cli_kv_type, MODEL(kv_f16), 0, 0,
     "how the caches store keys and values (int8)"},
    {1, 0, "arch", NULL, "FILE", TEXT, MODEL(arch), 0, 0, VLY_HELP_ARCH},
    {1, 0, "device", NULL, "D", TEXT, MODEL(device), 0, 0, VLY_HELP_DEVICE},
    {1, 0, "draft-max", NULL, "K", &vly_cli_draft_max_type, MODEL(draft_max), 0, VLY_MAX_DRAFT,
     "tokens that are drafted at a time, with auto at most (4, with ngram 8, with "
     "auto " VLY_HELP_NUMBER(VLY_MAX_DRAFT) "), where a request does not say"},
    {1, 0, "draft-method", NULL, "METHOD", &vly_cli_method_type, MODEL(draft_method), 0, 0,
     "what is drafted, where a request does not say; see 'volley run --help'"},
    {1, 0, "request-timeout", NULL, "S", REAL, SERVE(request_timeout_s), 0, MAX_S,
     "seconds from the end of a request to the end of its answer; 0: no limit, as for all times"},
    {1, 0, "header-timeout", NULL, "S", REAL, SERVE(header_timeout_s), 0, MAX_S,
     "seconds for the header of a request to come"},
    {1, 0, "body-timeout", NULL, "S", REAL, SERVE(body_timeout_s), 0, MAX_S,
     "seconds for its body to come"},
    {1, 0, "idle-timeout", NULL, "S", REAL, SERVE(idle_timeout_s), 0, MAX_S,
     "seconds that a connection may be kept without a request"},
    {1, 0, "write-timeout", NULL, "S", REAL, SERVE(write_timeout_s), 0, MAX_S,
     "seconds in which a client may take nothing of its answer"},
    {1, 0, "drain-timeout", NULL, "S", REAL, SERVE(drain_timeout_s), 0, MAX_S,
     "seconds that answers may go on after SIGTERM; 0: none"},
    {1, 0, "max-connections", NULL, "N", COUNT, SERVE(max_connections), 0, 1e6,
     "connections at a time; 0: no limit, as for the next"},
    {1, 0, "max-peer-connections", NULL, "N", COUNT, SERVE(max_peer_connections), 0, 1e6,
     "connections of one process or address"},
    {1, 0, "max-header", NULL, "BYTES", &bytes_type, SERVE(max_header_bytes), 256, 65536,
     "largest header of a request"},
    {1, 0, "max-body", NULL, "BYTES", &bytes_type, SERVE(max_body_bytes), 256, 1 << 30,
     "largest body of a request"},
    {1, 0, "max-prompt", NULL, "N", COUNT, SERVE(max_prompt_tokens), 0, VLY_OPTION_MAX_COUNT,
     "tokens of the longest prompt; 0: what the context holds"},
    {1, 0, "max-buffered", NULL, "BYTES", &bytes_type, SERVE(max_buffered_bytes), 4096, 1 << 30,
     "bytes of an answer that wait for a slow reader before the work on it pauses"},
    {1, 0, "log", NULL, "json|text", &log_type, 0, 0, 0,
     "how the lines on standard error are written, one for each request (text)"},
    {1, 'v', "verbose", NULL, NULL, &vly_option_tally, MODEL(verbosity), 0, 0,
     "say more on standard error"},
    {1, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};

static const char intro[] =
    "usage: volley serve --socket PATH [OPTION...]\n\n"
    "Answers the requests of OpenAI's API (completions and chat, streaming or whole)\n"
    "over HTTP on a Unix socket, on TCP, and on sockets that systemd passes; see\n"
    "docs/api.md. Many requests are worked on at a time, each with its own draft. The\n"
    "models are chosen as by 'volley run'.\n\n"
    "SIGTERM and Ctrl-C take no new requests and end when the answers have been given\n"
    "or --drain-timeout is over; a second one ends at once.\n\n";

static options defaults(void)
{
    options o = {.serve = vly_serve_options_default(), .n_parallel = 32, .n_queued = 128};
    o.models.draft_max = o.serve.draft_max;
    return o;
}

/* vly_cli_use_models */
static int serve(void *arg, const vly_engine_options *models, vly_error *err)
{
    const options *o = arg;
    vly_engine_options engine = *models;
    engine.n_parallel = o->n_parallel;
    engine.n_queued = o->n_queued;
    engine.kv_bytes = o->kv_bytes;
    return vly_serve(&o->serve, &engine, err);
}

/* When large memory is freed, as by loading, glibc keeps ever larger pieces from then on: a server
 * would grow by megabytes over its first thousands of requests, and keep them. */
static void give_memory_back(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
#endif
}

int vly_cli_serve(int argc, char **argv)
{
    const options default_values = defaults();
    options o = defaults();
    vly_option_table table = {.rows = rows,
                              .n_rows = sizeof rows / sizeof *rows,
                              .command = 1,
                              .intro = intro,
                              .outro =
                                  "\nExit status: 0 ended by a signal, 1 failed, 2 wrong usage.\n",
                              .default_values = &default_values};
    int status = vly_option_table_parse(&table, argc, argv, &o);
    if (status) return status < 0 ? 0 : status;
    if (!o.serve.socket && !o.serve.tcp && !getenv("LISTEN_FDS"))
        return vly_cli_usage_error(argv[0], "expected --socket PATH or --tcp PORT, got neither");
    vly_log_configure(o.models.verbosity ? VLY_LOG_DEBUG : VLY_LOG_INFO, o.serve.log_json);
    give_memory_back();
    o.serve.draft_method = o.models.draft_method;
    o.serve.draft_max = o.models.draft_max;
    vly_error err;
    return vly_cli_find_models(&o.models, true, serve, &o, &err) ? vly_cli_fail(&err) : 0;
}
