// hello: greets each argument, or the world, as GREETING in the environment says.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *greeting = getenv("GREETING");
    if (greeting == NULL)
        greeting = "hello";
    if (argc < 2)
        printf("%s, world\n", greeting);
    for (int i = 1; i < argc; i++)
        printf("%s, %s\n", greeting, argv[i]);
    return 0;
}
