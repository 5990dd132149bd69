#pragma once
// Wrappers where librabbitmq's own interface hurts in Swift: unions, variadic functions, struct timeval.
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

// A frame without its union.
typedef struct {
  int kind;              // 1 method, 2 header, 3 body
  uint16_t channel;
  uint32_t method;       // of a method frame
  const void *decoded;   // the method, or the properties of a header frame
  uint64_t body_size;    // of a header frame
  const uint8_t *bytes;  // the encoded properties of a header frame, or a body fragment
  size_t length;
} dr_amqp_frame;

// Gives AMQP_STATUS_OK, AMQP_STATUS_TIMEOUT, or another status. What the frame points to lives until the channel's
// buffers are released.
static inline int dr_amqp_next_frame(amqp_connection_state_t connection, int64_t microseconds, dr_amqp_frame *out) {
  amqp_frame_t frame;
  struct timeval limit = {microseconds / 1000000, microseconds % 1000000};
  int status = amqp_simple_wait_frame_noblock(connection, &frame, &limit);
  if (status != AMQP_STATUS_OK) return status;
  memset(out, 0, sizeof *out);
  out->channel = frame.channel;
  switch (frame.frame_type) {
    case AMQP_FRAME_METHOD:
      out->kind = 1;
      out->method = frame.payload.method.id;
      out->decoded = frame.payload.method.decoded;
      break;
    case AMQP_FRAME_HEADER:
      out->kind = 2;
      out->body_size = frame.payload.properties.body_size;
      out->decoded = frame.payload.properties.decoded;
      out->bytes = (const uint8_t *)frame.payload.properties.raw.bytes;
      out->length = frame.payload.properties.raw.len;
      break;
    case AMQP_FRAME_BODY:
      out->kind = 3;
      out->bytes = (const uint8_t *)frame.payload.body_fragment.bytes;
      out->length = frame.payload.body_fragment.len;
      break;
    default:
      break;
  }
  return AMQP_STATUS_OK;
}

static inline amqp_rpc_reply_t dr_amqp_login(
    amqp_connection_state_t connection, const char *vhost, int frame_max, int heartbeat,
    const amqp_table_t *properties, const char *user, const char *password) {
  return amqp_login_with_properties(
      connection, vhost, 0, frame_max, heartbeat, properties, AMQP_SASL_METHOD_PLAIN, user, password);
}

static inline int dr_amqp_socket_open(amqp_socket_t *socket, const char *host, int port, int64_t microseconds) {
  struct timeval limit = {microseconds / 1000000, microseconds % 1000000};
  return amqp_socket_open_noblock(socket, host, port, &limit);
}

// Whole frames of the caller's own making, without TLS only. Gives the number of bytes that the socket took, 0 if it has no room
// now, or -1.
static inline int64_t dr_amqp_send(amqp_connection_state_t connection, const void *bytes, size_t length) {
#ifdef MSG_NOSIGNAL
  ssize_t sent = send(amqp_get_sockfd(connection), bytes, length, MSG_NOSIGNAL);
#else
  ssize_t sent = send(amqp_get_sockfd(connection), bytes, length, 0);
#endif
  if (sent >= 0) return sent;
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}

// Asks for one more consumer, with a prefetch of its own, and does not wait for the answers.
static inline int dr_amqp_consume_ahead(
    amqp_connection_state_t connection, uint16_t channel, uint16_t prefetch, amqp_bytes_t queue, amqp_bytes_t tag) {
  amqp_basic_qos_t qos = {.prefetch_count = prefetch};
  int status = amqp_send_method(connection, channel, AMQP_BASIC_QOS_METHOD, &qos);
  if (status != AMQP_STATUS_OK) return status;
  amqp_basic_consume_t consume = {.queue = queue, .consumer_tag = tag, .arguments = amqp_empty_table};
  return amqp_send_method(connection, channel, AMQP_BASIC_CONSUME_METHOD, &consume);
}

// Waits end only when so many bytes are there: one wake-up for many messages. A hint; whoever waits must look again after a while.
static inline void dr_amqp_gather(amqp_connection_state_t connection, int bytes) {
  setsockopt(amqp_get_sockfd(connection), SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

static inline void dr_amqp_set_limits(amqp_connection_state_t connection, int64_t handshake, int64_t rpc) {
  struct timeval first = {handshake / 1000000, handshake % 1000000};
  struct timeval second = {rpc / 1000000, rpc % 1000000};
  amqp_set_handshake_timeout(connection, &first);
  amqp_set_rpc_timeout(connection, &second);
}

// What the broker said when it closed the channel (1) or the connection (2); 0: the method is none of the two.
static inline int dr_amqp_close_reason(uint32_t method, const void *decoded, int *code, amqp_bytes_t *text) {
  if (method == AMQP_CHANNEL_CLOSE_METHOD && decoded) {
    const amqp_channel_close_t *close = (const amqp_channel_close_t *)decoded;
    *code = close->reply_code;
    *text = close->reply_text;
    return 1;
  }
  if (method == AMQP_CONNECTION_CLOSE_METHOD && decoded) {
    const amqp_connection_close_t *close = (const amqp_connection_close_t *)decoded;
    *code = close->reply_code;
    *text = close->reply_text;
    return 2;
  }
  return 0;
}

static const uint32_t dr_amqp_basic_deliver = AMQP_BASIC_DELIVER_METHOD;
static const uint32_t dr_amqp_basic_return = AMQP_BASIC_RETURN_METHOD;
static const uint32_t dr_amqp_basic_ack = AMQP_BASIC_ACK_METHOD;
static const uint32_t dr_amqp_basic_nack = AMQP_BASIC_NACK_METHOD;
static const uint32_t dr_amqp_basic_cancel = AMQP_BASIC_CANCEL_METHOD;
static const uint32_t dr_amqp_connection_blocked = AMQP_CONNECTION_BLOCKED_METHOD;
static const uint32_t dr_amqp_connection_unblocked = AMQP_CONNECTION_UNBLOCKED_METHOD;

// Takes headers of these names out of a decoded table, in place.
static inline int dr_amqp_remove_header(amqp_table_t *table, const char *name) {
  size_t length = strlen(name);
  int kept = 0, removed = 0;
  for (int i = 0; i < table->num_entries; i++) {
    amqp_table_entry_t entry = table->entries[i];
    if (entry.key.len == length && memcmp(entry.key.bytes, name, length) == 0) { removed++; continue; }
    table->entries[kept++] = entry;
  }
  table->num_entries = kept;
  return removed;
}

static inline int dr_amqp_has_header(const amqp_table_t *table, const char *name) {
  size_t length = strlen(name);
  for (int i = 0; i < table->num_entries; i++)
    if (table->entries[i].key.len == length && memcmp(table->entries[i].key.bytes, name, length) == 0) return 1;
  return 0;
}

// The whole number that a header holds, or -1.
static inline int64_t dr_amqp_integer_header(const amqp_table_t *table, const char *name) {
  size_t length = strlen(name);
  for (int i = 0; i < table->num_entries; i++) {
    const amqp_table_entry_t *entry = &table->entries[i];
    if (entry->key.len != length || memcmp(entry->key.bytes, name, length) != 0) continue;
    switch (entry->value.kind) {
      case AMQP_FIELD_KIND_I8: return entry->value.value.i8;
      case AMQP_FIELD_KIND_U8: return entry->value.value.u8;
      case AMQP_FIELD_KIND_I16: return entry->value.value.i16;
      case AMQP_FIELD_KIND_U16: return entry->value.value.u16;
      case AMQP_FIELD_KIND_I32: return entry->value.value.i32;
      case AMQP_FIELD_KIND_U32: return entry->value.value.u32;
      case AMQP_FIELD_KIND_I64: return entry->value.value.i64;
      case AMQP_FIELD_KIND_U64: return (int64_t)entry->value.value.u64;
      default: return -1;
    }
  }
  return -1;
}
