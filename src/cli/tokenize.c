/* volley tokenize: the ids of a text, to look at and to compare with other tokenizers. */
#include "cli/cli.h"
#include "store/store.h"
#include "text/json.h"
#include "text/tokenizer.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *model, *text, *file;
    unsigned flags; /* VLY_ENCODE_* */
    bool json, jsonl;
} request;

static void print_help(void)
{
    printf(
        "usage: volley tokenize -m MODEL [-p TEXT | -f FILE] [OPTION...]\n\n"
        "Prints the token ids of a text, which is standard input without -p and -f. A file that\n"
        "has a vocabulary and nothing else will do as MODEL.\n\n"
        "  -m, --model MODEL    file or name of the model whose vocabulary to use\n"
        "  -p, --prompt TEXT    the text\n"
        "  -f, --file FILE      read the text from FILE\n"
        "      --bos            put the vocabulary's start token in front, if it has one\n"
        "      --parse-special  text that spells a control token (\"</s>\") becomes that token\n"
        "      --json           print {\"ids\":[...],\"pieces\":[...]}\n"
        "      --jsonl          read lines {\"text\":...} from standard input, print a line\n"
        "                       {\"ids\":[...]} for each\n"
        "  -h, --help           show this help\n");
}

/* 0, or the exit status to end with (help: -1). */
static int parse_options(int argc, char **argv, request *r)
{
    enum { BOS = 256, PARSE_SPECIAL, JSON, JSONL };
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"prompt", required_argument, NULL, 'p'},
                                            {"file", required_argument, NULL, 'f'},
                                            {"bos", no_argument, NULL, BOS},
                                            {"parse-special", no_argument, NULL, PARSE_SPECIAL},
                                            {"json", no_argument, NULL, JSON},
                                            {"jsonl", no_argument, NULL, JSONL},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    opterr = 0;
    for (int got; (got = getopt_long(argc, argv, ":m:p:f:h", options, NULL)) != -1;) {
        switch (got) {
        case 'm':
            r->model = optarg;
            break;
        case 'p':
            r->text = optarg;
            break;
        case 'f':
            r->file = optarg;
            break;
        case BOS:
            r->flags |= VLY_ENCODE_BOS;
            break;
        case PARSE_SPECIAL:
            r->flags |= VLY_ENCODE_PARSE_SPECIAL;
            break;
        case JSON:
            r->json = true;
            break;
        case JSONL:
            r->jsonl = true;
            break;
        case 'h':
            print_help();
            return -1;
        default:
            return vly_cli_option_error(argv[0], got, argv);
        }
    }
    if (optind < argc)
        return vly_cli_usage_error(argv[0], "unexpected argument '%s'", argv[optind]);
    if (!r->model) return vly_cli_usage_error(argv[0], "option '-m' is missing");
    if (r->text && r->file) return vly_cli_usage_error(argv[0], "expected -p or -f, found both");
    if (r->jsonl && (r->text || r->file))
        return vly_cli_usage_error(argv[0], "--jsonl reads standard input, not -p or -f");
    if (r->jsonl && r->json)
        return vly_cli_usage_error(argv[0], "expected --json or --jsonl, found both");
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
    int rc = vly_tokenizer_encode(t, text.data, text.len, r->flags, &ids, err);
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
    /* Whoever reads the other end of a pipe gets the answer before asking again. main reports what
     * could not be written. */
    if (!rc) fwrite(line.data, 1, line.len, stdout);
    fflush(stdout);
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
    while (!rc && !ferror(stdout) && (n = getline(&line, &room, stdin)) >= 0) {
        number++;
        rc = tokenize_json_line(r, t, (vly_bytes){line, (size_t)n}, err);
        if (rc) vly_fail_within(err, "standard input, line %zu", number);
        errno = 0;
    }
    if (!rc && !ferror(stdout) && (ferror(stdin) || errno))
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
    int status = parse_options(argc, argv, &r);
    if (status) return status < 0 ? 0 : status;
    vly_error err;
    return tokenize(&r, &err) ? vly_cli_fail(&err) : 0;
}
