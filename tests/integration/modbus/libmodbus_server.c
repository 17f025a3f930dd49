/* A Modbus server on libmodbus, for the interoperability tests.
 *
 *   libmodbus_server tcp           prints the port that it listens on
 *   libmodbus_server rtu DEVICE    prints "ready"
 *
 * Unit 1. Holding and input registers n hold n; coils and discrete inputs are on where n is odd.
 * Addresses from 100 on do not exist.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES 100

static modbus_mapping_t *mapping(void)
{
    modbus_mapping_t *map = modbus_mapping_new(ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES);
    if (map == NULL)
        return NULL;
    for (int i = 0; i < ADDRESSES; i++) {
        map->tab_registers[i] = map->tab_input_registers[i] = (uint16_t)i;
        map->tab_bits[i] = map->tab_input_bits[i] = (uint8_t)(i & 1);
    }
    return map;
}

/* Answers until the other side is gone. */
static void answer(modbus_t *ctx, modbus_mapping_t *map, int endless)
{
    uint8_t query[MODBUS_MAX_ADU_LENGTH];
    for (;;) {
        int length = modbus_receive(ctx, query);
        if (length > 0)
            modbus_reply(ctx, query, length, map);
        else if (length < 0 && !endless)
            return;
    }
}

static int serve_tcp(modbus_mapping_t *map)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    int listening = ctx ? modbus_tcp_listen(ctx, 4) : -1;
    struct sockaddr_in place;
    socklen_t size = sizeof place;
    if (listening < 0 || getsockname(listening, (struct sockaddr *)&place, &size) < 0) {
        fprintf(stderr, "cannot listen: %s\n", modbus_strerror(errno));
        return 1;
    }
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    for (;;) {
        if (modbus_tcp_accept(ctx, &listening) < 0)
            return 1;
        answer(ctx, map, 0);
        modbus_close(ctx);
    }
}

static int serve_rtu(modbus_mapping_t *map, const char *device)
{
    modbus_t *ctx = modbus_new_rtu(device, 19200, 'N', 8, 1);
    if (ctx == NULL || modbus_set_slave(ctx, 1) < 0 || modbus_connect(ctx) < 0) {
        fprintf(stderr, "cannot open %s: %s\n", device, modbus_strerror(errno));
        return 1;
    }
    printf("ready\n");
    fflush(stdout);
    answer(ctx, map, 1);
    return 0;
}

int main(int argc, char **argv)
{
    modbus_mapping_t *map = mapping();
    if (map != NULL && argc == 2 && strcmp(argv[1], "tcp") == 0)
        return serve_tcp(map);
    if (map != NULL && argc == 3 && strcmp(argv[1], "rtu") == 0)
        return serve_rtu(map, argv[2]);
    fprintf(stderr, "usage: %s tcp | rtu DEVICE\n", argv[0]);
    return 2;
}
