#include "serve/writer.h"

#include "text/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void vly_writer_put(vly_writer *w, const void *data, size_t n)
{
    if (vly_text_append(&w->text, data, n)) w->failed = true;
}

void vly_writer_text(vly_writer *w, const char *text)
{
    vly_writer_put(w, text, strlen(text));
}

void vly_writer_format(vly_writer *w, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text)
        w->failed = true;
    else
        vly_writer_put(w, text, (size_t)n);
}

void vly_writer_escaped(vly_writer *w, const char *data, size_t n)
{
    size_t copied = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        vly_writer_put(w, data + copied, i - copied);
        copied = i + 1;
        switch (c) {
        case '\n':
            vly_writer_put(w, "\\n", 2);
            break;
        case '\t':
            vly_writer_put(w, "\\t", 2);
            break;
        case '"':
            vly_writer_put(w, "\\\"", 2);
            break;
        case '\\':
            vly_writer_put(w, "\\\\", 2);
            break;
        default:
            vly_writer_format(w, "\\u%04x", c);
        }
    }
    vly_writer_put(w, data + copied, n - copied);
}

void vly_writer_string(vly_writer *w, const char *data, size_t n)
{
    vly_writer_put(w, "\"", 1);
    vly_writer_escaped(w, data, n);
    vly_writer_put(w, "\"", 1);
}

void vly_writer_bytes(vly_writer *w, const char *data, size_t n)
{
    if (vly_json_quote((vly_bytes){data, n}, &w->text)) w->failed = true;
}

void vly_writer_real(vly_writer *w, double value, int decimals)
{
    if (isfinite(value) && fabs(value) < 1e300)
        vly_writer_format(w, "%.*f", decimals, value);
    else
        vly_writer_text(w, "null");
}

void vly_writer_clear(vly_writer *w)
{
    w->text.len = 0;
    w->failed = false;
}
