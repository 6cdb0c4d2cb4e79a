/* Command lines from a table: one row says what an option is called, what it takes, where that
 * goes, and how help explains it. */
#ifndef VLY_CLI_OPTION_TABLE_H
#define VLY_CLI_OPTION_TABLE_H

#include "base/vec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vly_option_row;

/* What a value is: how it is stored in the options (0 or -1) and what it is in words ("int8 or
 * f16"). Without `parse` the option asks for help. */
typedef struct {
    int (*parse)(const struct vly_option_row *row, const char *text, void *options);
    const char *expected;
    const char *or_else; /* what it may be besides ("-1"), or NULL */
    bool ranged;         /* help and errors tell the row's range, */
    bool whole;          /* and help the default, of uint32_t */
    bool real;           /* or of float */
} vly_option_type;

extern const vly_option_type vly_option_text;  /* const char * */
extern const vly_option_type vly_option_flag;  /* bool; the option takes no value */
extern const vly_option_type vly_option_tally; /* uint32_t, counts how often; takes no value */
extern const vly_option_type vly_option_count; /* uint32_t in min..max */
extern const vly_option_type vly_option_limit; /* the same, or -1: UINT32_MAX */
extern const vly_option_type vly_option_real;  /* float in min..max; FLT_MIN stands for "above 0" */
extern const vly_option_type vly_option_list;  /* vly_ids, each in min..max: "1,2,3" */
extern const vly_option_type vly_option_help;  /* takes no value */

#define VLY_OPTION_WORD_BYTES 32
/* Reads one of the words with `separator` between, and moves *text behind it, to NULL behind the
 * last. 0, or -1 where it is longer than any number. */
int vly_option_word(const char **text, char separator, char word[VLY_OPTION_WORD_BYTES]);

/* Where the row's value is in the options. */
void *vly_option_field(const struct vly_option_row *row, void *options);

/* The largest of counts: UINT32_MAX stands for no limit. */
#define VLY_OPTION_MAX_COUNT 4294967294.0

/* What the help of several commands says of the same option. */
#define VLY_HELP_TARGET "file or name of the target, whose text it is (that of the shipped pair)"
#define VLY_HELP_DRAFT                                                                             \
    "file or name of the draft, or 'none' (that of the shipped pair; none where -m is given)"
#define VLY_HELP_TEMPLATE                                                                          \
    "spell conversations so and not as the model file says: the name of a family of templates "    \
    "(chatml, mistral-v0.3, llama3, zephyr, ...) or a file with a template of one"
#define VLY_HELP_FILE                                                                              \
    "read that text from FILE, '-' being standard input, less one newline at its end"
#define VLY_HELP_PARSE_SPECIAL "text that spells a control token (\"</s>\") becomes that token"
#define VLY_HELP_JSON          "print one JSON object and nothing else on standard output"
#define VLY_HELP_ARCH                                                                              \
    "JSON file that describes an architecture beside the known ones (docs/models.md)"
#define VLY_HELP_DEVICE                                                                            \
    "Vulkan device: a number or part of a name of 'volley devices' (the best one)"

/* A limit, as it is defined, in the text of help: "16". */
#define VLY_HELP_DIGITS(limit) #limit
#define VLY_HELP_NUMBER(limit) VLY_HELP_DIGITS(limit)

typedef struct vly_option_row {
    unsigned commands; /* a bit for each that takes it */
    char letter;       /* 0: none */
    const char *name, *alias;
    const char *value; /* what help calls it; NULL: takes none */
    const vly_option_type *type;
    size_t offset; /* of the field in the command's options */
    double min, max;
    const char *help;
} vly_option_row;

/* A word without a dash, which has to be there. */
typedef struct {
    const char *name; /* as help and errors call it */
    size_t offset;    /* of the const char * in the command's options */
} vly_option_operand;

typedef struct {
    const vly_option_row *rows;
    size_t n_rows;
    const vly_option_operand *operands; /* in their order */
    size_t n_operands;
    unsigned command;           /* whose rows count */
    const char *intro;          /* of help */
    const char *outro;          /* NULL: what the exit status of most commands means */
    const void *default_values; /* the options that help tells the defaults of */
    uint64_t *given;            /* bit i: an option of rows[i], i < 64, was there; may be NULL */
} vly_option_table;

/* Parses the words of the command argv[0] into `options`, which has its defaults. 0; or the exit
 * status to end with, the reason having been printed; or -1: help was printed, end with 0. */
int vly_option_table_parse(const vly_option_table *table, int argc, char **argv, void *options);

#endif
