#include "greet.h"

#include <stdio.h>
#include <string.h>

int greet(const char *whom)
{
    char greeting[128];
    FILE *file = fopen(GREETING_FILE, "r");
    if (file == NULL)
        return -1;
    char *read = fgets(greeting, sizeof greeting, file);
    fclose(file);
    if (read == NULL)
        return -1;
    greeting[strcspn(greeting, "\n")] = '\0';
    printf("%s (to %s)\n", greeting, whom);
    return 0;
}
