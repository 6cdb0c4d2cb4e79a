#include "tests/support/program.h"

#include "base/vec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

char *program_output(const char *arguments, int *status)
{
    const char *program = getenv("VOLLEY");
    char line[1024], chunk[4096];
    snprintf(line, sizeof line, "'%s' %s 2>&1", program ? program : "build/release/volley",
             arguments);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    vly_text text = {0};
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, pipe));)
        assert_int_equal(vly_text_append(&text, chunk, n), 0);
    int ended = pclose(pipe);
    assert_int_equal(vly_text_append(&text, "", 0), 0);
    if (!WIFEXITED(ended)) fail_msg("%s: ended by a signal: %s", line, text.data);
    *status = WEXITSTATUS(ended);
    return text.data;
}
