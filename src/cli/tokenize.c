/* volley tokenize: the ids of a text, to look at and to compare with other tokenizers. */
#include "cli/cli.h"
#include "cli/option_table.h"
#include "store/store.h"
#include "text/json.h"
#include "text/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *model, *text, *file;
    bool bos, parse_special, json, jsonl;
} request;

#define AT(field) offsetof(request, field)
static const vly_option_row rows[] = {
    {1, 'm', "model", NULL, "MODEL", &vly_option_text, AT(model), 0, 0,
     "file or name of the model whose vocabulary to use"},
    {1, 'p', "prompt", NULL, "TEXT", &vly_option_text, AT(text), 0, 0, "the text"},
    {1, 'f', "file", NULL, "FILE", &vly_option_text, AT(file), 0, 0,
     "read the text from FILE, '-' being standard input"},
    {1, 0, "bos", NULL, NULL, &vly_option_flag, AT(bos), 0, 0,
     "put the vocabulary's start token in front, if it has one"},
    {1, 0, "parse-special", NULL, NULL, &vly_option_flag, AT(parse_special), 0, 0,
     VLY_HELP_PARSE_SPECIAL},
    {1, 0, "json", NULL, NULL, &vly_option_flag, AT(json), 0, 0,
     "print {\"ids\":[...],\"pieces\":[...]}"},
    {1, 0, "jsonl", NULL, NULL, &vly_option_flag, AT(jsonl), 0, 0,
     "read lines {\"text\":...} from standard input, print a line {\"ids\":[...]} for each"},
    {1, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};

static const char intro[] =
    "usage: volley tokenize -m MODEL [-p TEXT | -f FILE] [OPTION...]\n\n"
    "Prints the token ids of a text, which is standard input without -p and -f. A\n"
    "file that has a vocabulary and nothing else will do as MODEL.\n\n";

/* What no single option shows to be wrong. */
static int check(const char *name, const request *r)
{
    if (!r->model) return vly_cli_usage_error(name, "option '-m' is missing");
    if (r->text && r->file)
        return vly_cli_usage_error(name, "expected one of -p and -f, found more");
    if (r->jsonl && (r->text || r->file))
        return vly_cli_usage_error(name, "--jsonl reads standard input, not -p or -f");
    if (r->jsonl && r->json)
        return vly_cli_usage_error(name, "expected --json or --jsonl, not both");
    return 0;
}

static int append_ids(const vly_ids *ids, const char *separator, vly_text *out)
{
    int rc = 0;
    for (size_t i = 0; i < ids->len && !rc; i++) {
        char number[16];
        int n = snprintf(number, sizeof number, "%s%u", i ? separator : "", ids->data[i]);
        rc = vly_text_append(out, number, (size_t)n);
    }
    return rc;
}

static int append_pieces(const vly_tokenizer *t, const vly_ids *ids, vly_text *out)
{
    int rc = vly_text_append(out, ",\"pieces\":[", 11);
    for (size_t i = 0; i < ids->len && !rc; i++) {
        rc = vly_text_append(out, ",", i > 0);
        if (!rc) rc = vly_json_quote(vly_tokenizer_piece(t, ids->data[i]), out);
    }
    return rc ? rc : vly_text_append(out, "]", 1);
}

/* Prints a line with the ids of `text`, in the form that `r` asks for. */
static int print_ids(const request *r, const vly_tokenizer *t, vly_bytes text, vly_error *err)
{
    vly_ids ids = {0};
    unsigned flags =
        (r->bos ? VLY_ENCODE_BOS : 0) | (r->parse_special ? VLY_ENCODE_PARSE_SPECIAL : 0);
    int rc = vly_tokenizer_encode(t, text.data, text.len, flags, &ids, err);
    if (rc) return rc;
    vly_text line = {0};
    bool object = r->json || r->jsonl;
    if (object) rc = vly_text_append(&line, "{\"ids\":[", 8);
    if (!rc) rc = append_ids(&ids, object ? "," : " ", &line);
    if (!rc && object) rc = vly_text_append(&line, "]", 1);
    if (!rc && r->json) rc = append_pieces(t, &ids, &line);
    if (!rc && object) rc = vly_text_append(&line, "}", 1);
    if (!rc) rc = vly_text_append(&line, "\n", 1);
    if (rc) vly_fail(err, rc, "no memory to print %zu ids", ids.len);
    /* Whoever reads the other end of a pipe gets the answer before asking again. */
    if (!rc && (fwrite(line.data, 1, line.len, stdout) != line.len || fflush(stdout))) {
        rc = vly_fail(err, VLY_E_IO, "cannot write to standard output: %s", strerror(errno));
        clearerr(stdout); /* main is not to say so again */
    }
    vly_text_free(&line);
    vly_ids_free(&ids);
    return rc;
}

static int tokenize_json_line(const request *r, const vly_tokenizer *t, vly_bytes line,
                              vly_error *err)
{
    cJSON *json;
    int rc = vly_json_parse(line.data, line.len, &json, err);
    if (rc) return rc;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "text");
    vly_text text = {0};
    if (!cJSON_IsString(item))
        rc = vly_fail(err, VLY_E_FORMAT, "expected an object {\"text\": a string}, found %s",
                      !cJSON_IsObject(json) ? "something else"
                      : item                ? "a text that is no string"
                                            : "none");
    else if ((rc = vly_json_string(item, &text)))
        vly_fail(err, rc, "no memory for the text");
    cJSON_Delete(json);
    if (!rc) rc = print_ids(r, t, (vly_bytes){text.data, text.len}, err);
    vly_text_free(&text);
    return rc;
}

static int tokenize_lines(const request *r, const vly_tokenizer *t, vly_error *err)
{
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t n;
    int rc = 0;
    errno = 0;
    while (!rc && (n = getline(&line, &room, stdin)) >= 0) {
        number++;
        rc = tokenize_json_line(r, t, (vly_bytes){line, (size_t)n}, err);
        if (rc && rc != VLY_E_IO) vly_fail_within(err, "standard input, line %zu", number);
        errno = 0;
    }
    if (!rc && (ferror(stdin) || errno))
        rc = vly_fail(err, VLY_E_IO, "cannot read standard input: %s", strerror(errno));
    free(line);
    return rc;
}

static int tokenize(const request *r, vly_error *err)
{
    vly_gguf *gguf;
    vly_tokenizer *t;
    int rc = vly_store_open(r->model, &gguf, err);
    if (rc) return rc;
    rc = vly_tokenizer_create(gguf, &t, err);
    vly_gguf_close(gguf);
    if (rc) return rc;
    vly_text text = {0};
    if (r->jsonl) {
        rc = tokenize_lines(r, t, err);
    } else if (r->text) {
        rc = print_ids(r, t, (vly_bytes){r->text, strlen(r->text)}, err);
    } else {
        rc = vly_cli_read_text(r->file, &text, err);
        if (!rc) rc = print_ids(r, t, (vly_bytes){text.data, text.len}, err);
    }
    vly_text_free(&text);
    vly_tokenizer_destroy(t);
    return rc;
}

int vly_cli_tokenize(int argc, char **argv)
{
    request r = {0};
    const vly_option_table table = {.rows = rows,
                                    .n_rows = sizeof rows / sizeof *rows,
                                    .command = 1,
                                    .intro = intro,
                                    .default_values = &(request){0}};
    int status = vly_option_table_parse(&table, argc, argv, &r);
    if (!status) status = check(argv[0], &r);
    if (status) return status < 0 ? 0 : status;
    vly_error err;
    return tokenize(&r, &err) ? vly_cli_fail(&err) : 0;
}
