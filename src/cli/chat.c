/* volley chat: a conversation in the terminal. */
#include "cli/cli.h"
#include "cli/generate.h"
#include "cli/line_input.h"
#include "cli/stats.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *role;
    vly_text content;
} message;

typedef struct {
    vly_cli_options *options;
    vly_engine *engine;
    vly_line_input *input;
    vly_text system;   /* the system message, where has_system */
    message *messages; /* of user and assistant in turns */
    size_t n, cap;
    vly_stats last, all; /* of `all` only the sums that /stats tells */
    uint32_t n_answers;
    bool has_system, done, failed;
} chat;

/* ---- the messages ---- */

static int no_memory(vly_error *err)
{
    return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the conversation");
}

/* Takes `content` over. */
static int add_message(chat *c, const char *role, vly_text *content, vly_error *err)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        message *messages = realloc(c->messages, cap * sizeof *messages);
        if (!messages) return no_memory(err);
        c->messages = messages;
        c->cap = cap;
    }
    c->messages[c->n++] = (message){role, *content};
    *content = (vly_text){0};
    return 0;
}

static void drop_messages(chat *c, size_t from)
{
    while (c->n > from) vly_text_free(&c->messages[--c->n].content);
}

/* The text of the whole conversation, the assistant's turn opened. */
static int spell(const chat *c, char **text, size_t *len, vly_error *err)
{
    vly_chat_message *all = calloc(c->n + 1, sizeof *all);
    size_t n = 0;
    if (!all) return no_memory(err);
    if (c->has_system) all[n++] = (vly_chat_message){"system", c->system.data, c->system.len};
    for (size_t i = 0; i < c->n; i++)
        all[n++] = (vly_chat_message){c->messages[i].role, c->messages[i].content.data,
                                      c->messages[i].content.len};
    int rc = vly_engine_apply_template(c->engine, all, n, true, text, len, err);
    free(all);
    return rc;
}

/* ---- answers ---- */

static void count_answer(chat *c, const vly_cli_generation *g)
{
    const vly_stats *s = &g->stats;
    c->last = *s;
    c->all.prompt_tokens += s->prompt_tokens;
    c->all.n_cached_tokens += s->n_cached_tokens;
    c->all.generated_tokens += s->generated_tokens;
    c->all.generate_ms += s->generate_ms;
    c->all.blocks += s->blocks;
    c->all.drafted += s->drafted;
    c->all.accepted += s->accepted;
    c->n_answers++;
    if (g->finish == VLY_FINISH_LENGTH)
        fprintf(stderr,
                s->prompt_tokens + s->generated_tokens >= vly_engine_get_info(c->engine)->n_ctx
                    ? "(the context is full; /reset begins anew)\n"
                    : "(cut by -n)\n");
}

/* Writes the answer to the conversation as it stands, and adds it. */
static int answer(chat *c, vly_error *err)
{
    char *prompt;
    size_t len;
    int rc = spell(c, &prompt, &len, err);
    if (rc) return rc;
    vly_cli_generation g = {.is_answer = true};
    vly_request request = vly_cli_options_request(c->options, c->engine);
    request.prompt = prompt;
    request.prompt_len = len;
    if (!c->options->has_seed) rc = vly_cli_random_seed(&request.sampling.seed, err);
    if (!rc) rc = vly_cli_generate(c->engine, &request, STDOUT_FILENO, &g, err);
    free(prompt);
    if (!rc) rc = vly_cli_write(STDOUT_FILENO, "\n", 1, err);
    if (!rc) count_answer(c, &g);
    if (!rc && vly_text_append(&g.text, "", 0)) rc = no_memory(err);
    if (!rc) rc = add_message(c, "assistant", &g.text, err);
    vly_cli_generation_deinit(&g);
    return rc;
}

/* What the model or its template does not take ends that message and not the conversation. */
static int take_message(chat *c, const vly_text *line, vly_error *err)
{
    size_t before = c->n;
    vly_text content = {0};
    int rc = vly_text_append(&content, line->data, line->len) ? no_memory(err) : 0;
    if (!rc) rc = add_message(c, "user", &content, err);
    vly_text_free(&content);
    if (!rc) rc = answer(c, err);
    if (!rc) return 0;
    drop_messages(c, before);
    if (rc != VLY_E_CONTEXT && rc != VLY_E_INVALID) return rc;
    fprintf(stderr, "volley: %s%s\n", err->message,
            rc == VLY_E_CONTEXT && c->n ? "; /reset begins anew" : "");
    c->failed = true;
    return 0;
}

/* ---- commands ---- */

static void print_answers(const char *name, const vly_stats *s)
{
    fprintf(stderr,
            "%-13s prompt %" PRIu32 " tokens, %" PRIu32 " of them cached; answer %" PRIu32
            " token%s, %.1f tokens/s",
            name, s->prompt_tokens, s->n_cached_tokens, s->generated_tokens,
            vly_plural(s->generated_tokens), vly_cli_tokens_per_second(s));
    vly_cli_print_drafting(s);
    fputc('\n', stderr);
}

static int show_stats(chat *c, const char *argument, vly_error *err)
{
    (void)argument;
    (void)err;
    uint32_t n_ctx = vly_engine_get_info(c->engine)->n_ctx;
    uint32_t n_used = c->n ? c->last.prompt_tokens + c->last.generated_tokens : 0;
    fprintf(stderr, "conversation  %zu message%s, %" PRIu32 " of %" PRIu32 " tokens\n", c->n,
            vly_plural(c->n), n_used, n_ctx);
    if (c->n_answers) print_answers("last answer", &c->last);
    if (c->n_answers > 1) print_answers("all answers", &c->all);
    return 0;
}

static int reset(chat *c, const char *argument, vly_error *err)
{
    (void)argument;
    (void)err;
    drop_messages(c, 0);
    return 0;
}

static int set_system(chat *c, const char *argument, vly_error *err)
{
    c->has_system = *argument != '\0';
    c->system.len = 0;
    return vly_text_append(&c->system, argument, strlen(argument)) ? no_memory(err) : 0;
}

static int leave(chat *c, const char *argument, vly_error *err)
{
    (void)argument;
    (void)err;
    c->done = true;
    return 0;
}

static int show_help(chat *c, const char *argument, vly_error *err);

static const struct {
    const char *name, *argument; /* NULL: takes none */
    int (*run)(chat *c, const char *argument, vly_error *err);
    const char *help;
} commands[] = {
    {"stats", NULL, show_stats, "show how long the conversation is and how fast it was written"},
    {"reset", NULL, reset, "begin a new conversation; the system message stays"},
    {"system", "TEXT", set_system, "set the system message; without TEXT, have none"},
    {"help", NULL, show_help, "show this"},
    {"exit", NULL, leave, "leave, as Ctrl-D does"},
    {"quit", NULL, leave, "the same"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static int show_help(chat *c, const char *argument, vly_error *err)
{
    (void)c;
    (void)argument;
    (void)err;
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(stderr, "/%-6s %-5s %s\n", commands[i].name,
                commands[i].argument ? commands[i].argument : "", commands[i].help);
    fprintf(stderr, "A message that begins with '/' is written with '//'.\n");
    return 0;
}

/* `line` begins with a slash. */
static int take_command(chat *c, const char *line, vly_error *err)
{
    size_t n = strcspn(line + 1, " ");
    const char *argument = line + 1 + n + strspn(line + 1 + n, " ");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strlen(commands[i].name) != n || memcmp(commands[i].name, line + 1, n) != 0) continue;
        if (!*argument || commands[i].argument) return commands[i].run(c, argument, err);
        fprintf(stderr, "volley: /%s takes no argument, got '%s'\n", commands[i].name, argument);
        c->failed = true;
        return 0;
    }
    fprintf(stderr, "volley: unknown command '%.*s'; /help lists the commands\n", (int)n + 1, line);
    c->failed = true;
    return 0;
}

/* ---- the conversation ---- */

/* Reads a message: lines as long as they end in a backslash. */
static int read_message(chat *c, vly_text *text, vly_line_event *event, vly_error *err)
{
    vly_text line = {0};
    int rc;
    bool more = false;
    text->len = 0;
    do {
        rc = vly_line_input_read(c->input, more ? ". " : "> ", &line, event, err);
        if (!rc && more && *event == VLY_LINE_INTERRUPTED) *event = VLY_LINE_DROPPED;
        if (rc || *event != VLY_LINE) break;
        vly_line_input_remember(c->input, line.data ? line.data : "");
        more = line.len && line.data[line.len - 1] == '\\';
        if (more) line.data[line.len - 1] = '\n';
        if (vly_text_append(text, line.data, line.len)) rc = no_memory(err);
    } while (!rc && more);
    /* The end of the input ends an unfinished message. */
    if (!rc && more && *event == VLY_LINE_END) *event = VLY_LINE;
    vly_text_free(&line);
    return rc;
}

static void ignore_interrupt(int signal_number)
{
    (void)signal_number;
}

static int converse(chat *c, vly_error *err)
{
    /* Reading a line and writing an answer each catch Ctrl-C; between them it has nothing to end.
     */
    struct sigaction action = {.sa_handler = ignore_interrupt, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    vly_text text = {0};
    vly_line_event event;
    int rc = 0;
    while (!c->done && !rc) {
        rc = read_message(c, &text, &event, err);
        if (rc) break;
        bool empty = text.len == 0;
        if (event != VLY_LINE) {
            c->done = event != VLY_LINE_DROPPED;
            if (vly_line_input_on_terminal(c->input))
                rc = vly_cli_write(STDOUT_FILENO, "\n", 1, err);
        } else if (!empty && text.data[0] == '/' && text.data[1] != '/') {
            rc = take_command(c, text.data, err);
        } else if (!empty) {
            if (text.data[0] == '/') memmove(text.data, text.data + 1, text.len--);
            rc = take_message(c, &text, err);
        }
    }
    vly_text_free(&text);
    return rc;
}

/* A model that has no template says so before the first message. */
static int check_template(chat *c, vly_error *err)
{
    const vly_chat_message hello = {"user", "", 0};
    char *text;
    size_t len;
    int rc = vly_engine_apply_template(c->engine, &hello, 1, true, &text, &len, err);
    if (!rc) free(text);
    return rc;
}

static int start(chat *c, vly_error *err)
{
    int rc = vly_cli_load(c->options, c->options->draft_max > 0, &c->engine, err);
    if (rc) return rc;
    if (!(rc = check_template(c, err))) rc = vly_line_input_create(&c->input, err);
    if (!rc && c->options->system) rc = set_system(c, c->options->system, err);
    if (!rc && vly_line_input_on_terminal(c->input))
        fprintf(stderr, "%s. /help lists the commands.\n",
                vly_engine_get_info(c->engine)->target_name);
    if (!rc) rc = converse(c, err);
    vly_line_input_destroy(c->input);
    vly_engine_destroy(c->engine);
    return rc;
}

int vly_cli_chat(int argc, char **argv)
{
    vly_cli_options options;
    vly_error err;
    int status = vly_cli_options_parse(VLY_CLI_CHAT, argc, argv, &options);
    options.chat = true;
    chat c = {.options = &options};
    if (!status && start(&c, &err)) status = vly_cli_fail(&err);
    if (!status && c.failed) status = 1;
    drop_messages(&c, 0);
    free(c.messages);
    vly_text_free(&c.system);
    vly_cli_options_deinit(&options);
    return status < 0 ? 0 : status;
}
