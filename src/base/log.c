#include "base/log.h"

#include "base/clock.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>

static vly_log_level max_level = VLY_LOG_WARN;
static bool as_json;
static const char *const level_names[] = {"error", "warning", "info", "debug"};

void vly_log_configure(vly_log_level level, bool json)
{
    max_level = level;
    as_json = json;
}

bool vly_log_enabled(vly_log_level level)
{
    return level <= max_level;
}

void vly_log(vly_log_level level, const char *subsystem, const char *format, ...)
{
    if (!vly_log_enabled(level)) return;
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!as_json) {
        fprintf(stderr, "volley: %s: %s: %s\n", level_names[level], subsystem, text);
        return;
    }
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "time", vly_clock_utc().text);
    cJSON_AddStringToObject(line, "level", level_names[level]);
    cJSON_AddStringToObject(line, "subsystem", subsystem);
    cJSON_AddStringToObject(line, "message", text);
    char *printed = cJSON_PrintUnformatted(line);
    fprintf(stderr, "%s\n", printed ? printed : "{}");
    cJSON_free(printed);
    cJSON_Delete(line);
}
