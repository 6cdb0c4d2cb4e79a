/* Log lines to stderr, by level and subsystem, for people or as JSON lines. stdout is for results.
 */
#ifndef VLY_BASE_LOG_H
#define VLY_BASE_LOG_H

#include <stdbool.h>

typedef enum { VLY_LOG_ERROR, VLY_LOG_WARN, VLY_LOG_INFO, VLY_LOG_DEBUG } vly_log_level;

/* Lines above `level` are dropped; `json` chooses JSON lines. The default is WARN, for people.
 * Call before any other thread runs. */
void vly_log_configure(vly_log_level level, bool json);

/* Is `level` written at all? For callers whose arguments are costly to make. */
bool vly_log_enabled(vly_log_level level);

/* Writes one line: `subsystem` is a folder's name ("gpu", "gguf"). Thread-safe. */
void vly_log(vly_log_level level, const char *subsystem, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
