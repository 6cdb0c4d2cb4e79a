#include "cli/option_table.h"

#include "cli/cli.h"

#include <float.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- help ---- */

/* "0 to 100", "above 0 and at most 1". */
static void format_range(const vly_option_row *row, char *text, size_t n)
{
    if (row->min == (double)FLT_MIN)
        snprintf(text, n, "above 0 and at most %.10g", row->max);
    else
        snprintf(text, n, "%.10g to %.10g", row->min, row->max);
}

/* " (0 to 100, default 0.7)", without what says nothing to people. */
static void format_limits(const vly_option_table *table, const vly_option_row *row, char *text,
                          size_t n)
{
    const void *field = (const char *)table->default_values + row->offset;
    char range[64] = "", value[32] = "";
    if (row->type->ranged && row->max < VLY_OPTION_MAX_COUNT)
        format_range(row, range, sizeof range);
    if (row->type->real) snprintf(value, sizeof value, "default %g", (double)*(const float *)field);
    if (row->type->whole)
        snprintf(value, sizeof value, "default %" PRId32, *(const int32_t *)field);
    text[0] = '\0';
    if (range[0] || value[0])
        snprintf(text, n, " (%s%s%s)", range, range[0] && value[0] ? ", " : "", value);
}

/* Prints `text` beside what took `column` columns, or below it, broken between words. */
static void print_wrapped(int column, const char *text)
{
    enum { INDENT = 27, WIDTH = 80 };
    if (column + 2 > INDENT) {
        putchar('\n');
        column = 0;
    }
    column += printf("%*s", INDENT - column, "");
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column + 1 + n > WIDTH) column = printf("\n%*s", INDENT, "") - 1;
        column += printf("%s%.*s", column > INDENT ? " " : "", n, text);
        text += n;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_help(const vly_option_table *table)
{
    printf("%sOptions:\n", table->intro);
    for (const vly_option_row *row = table->rows; row < table->rows + table->n_rows; row++) {
        if (!(row->commands & table->command)) continue;
        char text[512], limits[128], letter[] = "    ";
        if (row->letter) memcpy(letter, (char[]){'-', row->letter, ',', ' '}, 4);
        int column = printf("  %s--%s%s%s%s%s", letter, row->name, row->alias ? ", --" : "",
                            row->alias ? row->alias : "", row->value ? " " : "",
                            row->value ? row->value : "");
        format_limits(table, row, limits, sizeof limits);
        snprintf(text, sizeof text, "%s%s", row->help, limits);
        print_wrapped(column, text);
    }
    fputs(table->outro ? table->outro : "\nExit status: 0 done, 1 failed, 2 wrong usage.\n",
          stdout);
}

/* ---- values ---- */

void *vly_option_field(const vly_option_row *row, void *options)
{
    return (char *)options + row->offset;
}

static int parse_text(const vly_option_row *row, const char *text, void *options)
{
    *(const char **)vly_option_field(row, options) = text;
    return 0;
}

static int parse_flag(const vly_option_row *row, const char *text, void *options)
{
    (void)text;
    *(bool *)vly_option_field(row, options) = true;
    return 0;
}

static int parse_tally(const vly_option_row *row, const char *text, void *options)
{
    (void)text;
    ++*(uint32_t *)vly_option_field(row, options);
    return 0;
}

static int parse_count(const vly_option_row *row, const char *text, void *options)
{
    uint64_t count;
    if (vly_cli_parse_u64(text, (uint64_t)row->min, (uint64_t)row->max, &count)) return -1;
    *(uint32_t *)vly_option_field(row, options) = (uint32_t)count;
    return 0;
}

static int parse_limit(const vly_option_row *row, const char *text, void *options)
{
    if (strcmp(text, "-1") != 0) return parse_count(row, text, options);
    *(uint32_t *)vly_option_field(row, options) = UINT32_MAX;
    return 0;
}

static int parse_real(const vly_option_row *row, const char *text, void *options)
{
    double real;
    if (vly_cli_parse_double(text, row->min, row->max, &real)) return -1;
    /* In single precision a tiny number above 0 may be 0. */
    *(float *)vly_option_field(row, options) = (float)real;
    return 0;
}

int vly_option_word(const char **text, char separator, char word[VLY_OPTION_WORD_BYTES])
{
    const char separators[] = {separator, '\0'};
    size_t len = strcspn(*text, separators);
    if (len >= VLY_OPTION_WORD_BYTES) return -1;
    memcpy(word, *text, len);
    word[len] = '\0';
    *text = (*text)[len] ? *text + len + 1 : NULL;
    return 0;
}

static int parse_list(const vly_option_row *row, const char *text, void *options)
{
    vly_ids *list = vly_option_field(row, options);
    char word[VLY_OPTION_WORD_BYTES];
    uint64_t value;
    list->len = 0;
    while (text)
        if (vly_option_word(&text, ',', word) ||
            vly_cli_parse_u64(word, (uint64_t)row->min, (uint64_t)row->max, &value) ||
            vly_ids_push(list, (uint32_t)value))
            return -1;
    return 0;
}

const vly_option_type vly_option_text = {.parse = parse_text};
const vly_option_type vly_option_flag = {.parse = parse_flag};
const vly_option_type vly_option_tally = {.parse = parse_tally};
const vly_option_type vly_option_count = {
    .parse = parse_count, .expected = "a whole number", .ranged = true, .whole = true};
const vly_option_type vly_option_limit = {.parse = parse_limit,
                                          .expected = "a whole number",
                                          .or_else = "-1",
                                          .ranged = true,
                                          .whole = true};
const vly_option_type vly_option_real = {
    .parse = parse_real, .expected = "a number", .ranged = true, .real = true};
const vly_option_type vly_option_list = {
    .parse = parse_list, .expected = "whole numbers with commas between", .ranged = true};
const vly_option_type vly_option_help = {.parse = NULL};

static int value_error(const char *command, const vly_option_row *row, const char *text)
{
    char range[64];
    format_range(row, range, sizeof range);
    const vly_option_type *type = row->type;
    return vly_cli_usage_error(command, "option '--%s': expected %s%s%s%s%s, got '%s'", row->name,
                               type->expected, type->ranged ? ", " : "", type->ranged ? range : "",
                               type->or_else ? ", or " : "", type->or_else ? type->or_else : "",
                               text);
}

/* ---- the command line ---- */

/* What getopt_long is to know: a long option's value is 256 + its row. */
static void make_getopt_tables(const vly_option_table *table, struct option *longs, char *shorts)
{
    *shorts++ = ':';
    for (size_t i = 0; i < table->n_rows; i++) {
        const vly_option_row *row = &table->rows[i];
        if (!(row->commands & table->command)) continue;
        int has_value = row->value ? required_argument : no_argument;
        *longs++ = (struct option){row->name, has_value, NULL, 256 + (int)i};
        if (row->alias) *longs++ = (struct option){row->alias, has_value, NULL, 256 + (int)i};
        if (row->letter) *shorts++ = row->letter;
        if (row->letter && row->value) *shorts++ = ':';
    }
    *longs = (struct option){0};
    *shorts = '\0';
}

static const vly_option_row *find_row(const vly_option_table *table, int got)
{
    if (got >= 256) return &table->rows[got - 256];
    for (size_t i = 0; i < table->n_rows; i++)
        if ((table->rows[i].commands & table->command) && table->rows[i].letter == got)
            return &table->rows[i];
    return NULL;
}

/* The option that `text`, up to a '=', begins, of those behind row *i, which becomes its row; NULL
 * where there is none. */
static const char *next_match(const vly_option_table *table, const char *text, size_t *i)
{
    size_t n = strcspn(text, "=");
    for (++*i; *i < table->n_rows; ++*i) {
        const vly_option_row *row = &table->rows[*i];
        if (!(row->commands & table->command)) continue;
        if (strncmp(row->name, text, n) == 0) return row->name;
        if (row->alias && strncmp(row->alias, text, n) == 0) return row->alias;
    }
    return NULL;
}

/* Reports what getopt_long did not like: `got` is what it returned, '?' or ':'. */
static int option_error(const vly_option_table *table, int got, char **argv)
{
    const char *command = argv[0], *argument = argv[optind - 1];
    if (got == ':') return vly_cli_usage_error(command, "option '%s' needs a value", argument);
    /* Of single letters only those without a row come here. */
    if (optopt && find_row(table, optopt))
        return vly_cli_usage_error(command, "option '%s' takes no value", argument);
    if (optopt) return vly_cli_usage_error(command, "unknown option '-%c'", optopt);
    size_t i = SIZE_MAX;
    const char *first = next_match(table, argument + 2, &i);
    const char *second = first ? next_match(table, argument + 2, &i) : NULL;
    if (second && argument[2] != '=')
        return vly_cli_usage_error(command, "option '%s' may be --%s or --%s", argument, first,
                                   second);
    return vly_cli_usage_error(command, "unknown option '%s'", argument);
}

/* The words that getopt_long left, which are behind the others now. */
static int take_operands(const vly_option_table *table, int argc, char **argv, void *options)
{
    for (size_t i = 0; i < table->n_operands; i++) {
        const vly_option_operand *operand = &table->operands[i];
        if (optind == argc) return vly_cli_usage_error(argv[0], "%s is missing", operand->name);
        *(const char **)((char *)options + operand->offset) = argv[optind++];
    }
    if (optind == argc) return 0;
    /* Programs of the same kind take a model and a prompt as words. */
    return vly_cli_usage_error(argv[0], "unexpected argument '%s'%s", argv[optind],
                               find_row(table, 'p')   ? ": a text goes behind -p, a model behind -m"
                               : find_row(table, 'm') ? ": a model goes behind -m"
                                                      : "");
}

static int parse_words(const vly_option_table *table, const struct option *longs,
                       const char *shorts, int argc, char **argv, void *options)
{
    opterr = 0;
    for (int got; (got = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        const vly_option_row *row = find_row(table, got);
        if (!row) return option_error(table, got, argv);
        if (!row->type->parse) {
            print_help(table);
            return -1;
        }
        if (row->type->parse(row, optarg, options)) return value_error(argv[0], row, optarg);
        if (table->given) *table->given |= UINT64_C(1) << (row - table->rows);
    }
    return take_operands(table, argc, argv, options);
}

int vly_option_table_parse(const vly_option_table *table, int argc, char **argv, void *options)
{
    struct option *longs = malloc((2 * table->n_rows + 1) * sizeof *longs);
    char *shorts = malloc(2 * table->n_rows + 2);
    int rc;
    if (longs && shorts) {
        make_getopt_tables(table, longs, shorts);
        rc = parse_words(table, longs, shorts, argc, argv, options);
    } else {
        vly_error err;
        vly_fail(&err, VLY_E_HOST_MEMORY, "no memory for the options");
        rc = vly_cli_fail(&err);
    }
    free(longs);
    free(shorts);
    return rc;
}
