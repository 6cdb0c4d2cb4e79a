#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*function)(int argc, char **argv);
    const char *summary;
} commands[] = {
#define VLY_COMMAND(name, function, summary) {#name, function, summary},
#include "cli/commands.def"
#undef VLY_COMMAND
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *to)
{
    fprintf(to, "usage: volley COMMAND [OPTION...]\n"
                "       volley help COMMAND\n"
                "       volley --version\n\n"
                "Writes text with a target model, which a small draft model speeds up.\n\n"
                "Commands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\nExit status: 0 done, 1 failed, 2 wrong usage.\n");
}

static int run_command(int argc, char **argv)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[0], commands[i].name) == 0) return commands[i].function(argc, argv);
    fprintf(stderr, "volley: unknown %s '%s'\ntry 'volley --help'\n",
            argv[0][0] == '-' ? "option" : "command", argv[0]);
    return 2;
}

static int unexpected(const char *option, const char *word)
{
    fprintf(stderr, "volley %s: unexpected argument '%s'\n", option, word);
    return 2;
}

/* "help bench decode" is "bench decode --help". */
static int show_help(int n_words, char **words)
{
    static char option[] = "--help";
    int most = n_words && strcmp(words[0], "bench") == 0 ? 2 : 1;
    if (n_words > most) return unexpected("help", words[most]);
    if (n_words)
        return run_command(n_words + 1,
                           (char *[]){words[0], n_words > 1 ? words[1] : option, option, NULL});
    print_help(stdout);
    return 0;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "volley: a command is missing\n\n");
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0)
        return show_help(argc - 2, argv + 2);
    if (strcmp(argv[1], "--version") == 0) {
        if (argc > 2) return unexpected("--version", argv[2]);
        printf("volley %s\n", VLY_VERSION);
        return 0;
    }
    return run_command(argc - 1, argv + 1);
}

/* Standard streams that the caller closed would be taken by the first files opened, which would
 * then be written to. They are opened the wrong way round, so that using them still fails. */
static void keep_standard_streams(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    keep_standard_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error that has a message */
    int status = dispatch(argc, argv);
    /* A full disk is a failure, not a success with half a result. */
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        /* The reason is not known where an earlier write failed and left nothing to be written. */
        fprintf(stderr, "volley: error: cannot write to standard output%s%s\n", errno ? ": " : "",
                errno ? strerror(errno) : "");
        if (status == 0) status = 1;
    }
    return status;
}
