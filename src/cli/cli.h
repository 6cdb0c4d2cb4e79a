/* What the commands share. A command is `int vly_cli_NAME(int argc, char **argv)`, listed in
 * commands.def: argv[0] is its name; it returns the exit status: 0, 1 for a failure, 2 for wrong
 * usage. Results go to stdout (main checks that they were written), all else to stderr. */
#ifndef VLY_CLI_CLI_H
#define VLY_CLI_CLI_H

#include "base/error.h"
#include "base/vec.h"

#define VLY_COMMAND(name, function, summary) int function(int argc, char **argv);
#include "cli/commands.def"
#undef VLY_COMMAND

/* Prints "volley COMMAND: message" and where the help is, to stderr; returns 2. */
int vly_cli_usage_error(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Prints "volley: error: message" to stderr; returns 1. */
int vly_cli_fail(const vly_error *err);

/* Reads all of `text` as a number, decimal and within [min, max], to *out; 0 or -1. No spaces, no
 * sign where unsigned, no hexadecimal, no infinity. */
int vly_cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out);
int vly_cli_parse_double(const char *text, double min, double max, double *out);

/* Appends all of the file `path`, or of standard input where that is NULL or "-". VLY_E_NOT_FOUND,
 * VLY_E_IO, VLY_E_INVALID (more than 1 GiB), VLY_E_HOST_MEMORY. */
int vly_cli_read_text(const char *path, vly_text *text, vly_error *err);

/* `bytes` as terminated UTF-8, to be freed by the caller, NULL without memory: for JSON and
 * terminals. What is ill-formed, and NUL, becomes U+FFFD. */
char *vly_cli_utf8(vly_bytes bytes);

/* The same, and control characters as \xNN, so that it cannot move a terminal's cursor. */
char *vly_cli_printable(vly_bytes bytes);

#endif
