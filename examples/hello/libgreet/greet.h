#ifndef GREET_H
#define GREET_H

/* Writes the greeting for somebody to standard output. Returns 0, or -1 if there is no greeting. */
int greet(const char *whom);

#endif
