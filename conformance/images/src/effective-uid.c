/* Installed set-uid root: says which user it really runs as, so that a test sees whether privileges could grow. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    printf("Effective uid: %u\n", (unsigned)geteuid());
    return 0;
}
