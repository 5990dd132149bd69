// The least that librabbitmq can do, to hold dr-rabbitmq against: it reads a queue without taking its messages and throws
// them away, or publishes messages with confirms in a window.
//
//   loop dump    PORT USER VHOST QUEUE classic|quorum|stream COUNT [whole]
//   loop publish PORT USER VHOST QUEUE COUNT SIZE WINDOW
//   loop settle  PORT USER VHOST QUEUE COUNT
//
// What was read goes back when the connection ends, which takes the broker a while: settle waits until all is there again, and
// so does a dump that is to leave the queue whole.
// Messages are lines of JSON, of words and of digits that nobody can guess: zstd at level 1 makes a third of them.
// The password is in RABBITMQ_PASSWORD. Prints messages and seconds, connecting included.
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static amqp_connection_state_t c;

static void die(const char *what) { fprintf(stderr, "loop: %s failed\n", what); exit(2); }

static void check(const char *what) {
  if (amqp_get_rpc_reply(c).reply_type != AMQP_RESPONSE_NORMAL) die(what);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void consume(const char *queue, const char *type, int prefetch, int number) {
  char tag[32];
  snprintf(tag, sizeof tag, "loop-%03d", number);
  amqp_basic_qos(c, 1, 0, prefetch, 0);
  check("qos");
  amqp_table_entry_t offset = {amqp_cstring_bytes("x-stream-offset"), {AMQP_FIELD_KIND_UTF8, {0}}};
  offset.value.value.bytes = amqp_cstring_bytes("first");
  amqp_table_t arguments = {strcmp(type, "stream") == 0 ? 1 : 0, &offset};
  amqp_basic_consume(c, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(tag), 0, 0, 0, arguments);
  check("consume");
}

static void dump(const char *queue, const char *type, long count) {
  const int most = 65535;
  int is_stream = strcmp(type, "stream") == 0, consumers = 1;
  long of_consumer = 0;
  uint64_t bytes = 0, tag = 0;
  consume(queue, type, strcmp(type, "classic") == 0 ? (count > most ? 0 : count) : is_stream ? 2000 : most, consumers);
  for (long seen = 0; seen < count;) {
    amqp_frame_t frame;
    if (amqp_simple_wait_frame(c, &frame) != AMQP_STATUS_OK) die("reading");
    if (frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == AMQP_BASIC_DELIVER_METHOD)
      tag = ((amqp_basic_deliver_t *)frame.payload.method.decoded)->delivery_tag;
    if (frame.frame_type != AMQP_FRAME_HEADER) continue;
    for (uint64_t left = frame.payload.properties.body_size; left > 0;) {
      if (amqp_simple_wait_frame(c, &frame) != AMQP_STATUS_OK) die("reading");
      if (frame.frame_type != AMQP_FRAME_BODY) continue;
      left -= frame.payload.body_fragment.len;
      bytes += frame.payload.body_fragment.len;
    }
    amqp_maybe_release_buffers_on_channel(c, 1);
    seen++;
    if (is_stream && tag % 500 == 0) amqp_basic_ack(c, 1, tag, 1);
    if (strcmp(type, "quorum") == 0 && ++of_consumer == most && seen < count) {
      of_consumer = 0;
      consume(queue, type, most, ++consumers);
    }
  }
}

enum { bodies = 4096 };  // all different, made beforehand: more than a compressor looks back

static char *make_bodies(int size) {
  static const char *words[] = {"order",  "customer", "amount",  "pending", "street", "retry",  "invoice", "shipped",
                                "region", "payload",  "version", "created", "status", "total",  "account", "message"};
  uint64_t random = 88172645463325252u;
  char *all = malloc((size_t)bodies * size + 64);
  for (int i = 0; i < bodies; i++) {
    char *body = all + (size_t)i * size;
    int at = snprintf(body, size + 1, "{\"id\":%d", i);
    while (at < size) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      at += snprintf(body + at, size - at + 1, ",\"%s\":\"%s %08x\"", words[random & 15], words[random >> 4 & 15],
                     (unsigned)(random >> 32));
    }
  }
  return all;
}

static void settle(const char *queue, long count) {
  long ready = -1;
  for (double end = now() + 120; now() < end;) {
    amqp_queue_declare_ok_t *answer =
        amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    if (!answer) die("queue.declare");
    ready = answer->message_count;
    amqp_maybe_release_buffers(c);
    if (ready == count) return;
    nanosleep(&(struct timespec){0, 10000000}, NULL);
  }
  fprintf(stderr, "loop: %s has %ld messages, not %ld\n", queue, ready, count);
  exit(2);
}

static void publish(const char *queue, long count, int size, int window) {
  amqp_confirm_select(c, 1);
  check("confirm.select");
  char *all = make_bodies(size);
  amqp_basic_properties_t properties;
  memset(&properties, 0, sizeof properties);
  properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
  properties.delivery_mode = 2;
  uint64_t confirmed = 0;  // every message up to this one
  char *done = calloc(count + 2, 1);
  for (long sent = 1; sent <= count; sent++) {
    amqp_bytes_t bytes = {size, all + (size_t)(sent % bodies) * size};
    if (amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 1, 0, &properties, bytes) != 0) die("publish");
    while (sent - (long)confirmed >= window || (sent == count && (long)confirmed < count)) {
      amqp_frame_t frame;
      if (amqp_simple_wait_frame(c, &frame) != AMQP_STATUS_OK) die("confirm");
      if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD) die("confirm");
      amqp_basic_ack_t *ack = frame.payload.method.decoded;
      for (uint64_t tag = ack->multiple ? confirmed + 1 : ack->delivery_tag; tag <= ack->delivery_tag; tag++) done[tag] = 1;
      while (done[confirmed + 1]) confirmed++;
      amqp_maybe_release_buffers_on_channel(c, 1);
    }
  }
}

static void connect_to(char **a) {
  c = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(c);
  if (!socket || amqp_socket_open(socket, "127.0.0.1", atoi(a[2]))) die("connecting");
  if (amqp_login(c, a[4], 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, a[3], getenv("RABBITMQ_PASSWORD")).reply_type !=
      AMQP_RESPONSE_NORMAL)
    die("login");
  amqp_channel_open(c, 1);
  check("channel");
}

int main(int n, char **a) {
  if (n < 7) { fprintf(stderr, "see the top of loop.c\n"); return 64; }
  double start = now();
  connect_to(a);
  long count;
  if (strcmp(a[1], "dump") == 0 && n > 7) {
    dump(a[5], a[6], count = atol(a[7]));
    if (n > 8) {
      amqp_destroy_connection(c);
      connect_to(a);
      settle(a[5], count);
    }
  } else if (strcmp(a[1], "settle") == 0) {
    settle(a[5], count = atol(a[6]));
  } else if (n > 8) {
    publish(a[5], count = atol(a[6]), atoi(a[7]), atoi(a[8]));
  } else {
    die("reading the arguments");
  }
  printf("%ld %.3f\n", count, now() - start);
  amqp_destroy_connection(c);
  return 0;
}
