/* Runs the program under test: $VOLLEY, else the release build. */
#ifndef TESTS_PROGRAM_H
#define TESTS_PROGRAM_H

/* What `volley ARGUMENTS` (for a shell) prints on either stream, terminated, to be freed; *status
 * is its exit status. Fails the test where it did not exit by itself. */
char *program_output(const char *arguments, int *status);

#endif
