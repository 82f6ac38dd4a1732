#include "vm/qmp_client.h"

#include <algorithm>
#include <asio/buffer.hpp>
#include <asio/post.hpp>
#include <asio/write.hpp>
#include <cerrno>
#include <string_view>
#include <utility>

namespace sealift::vm {

namespace {

using Protocol = asio::local::stream_protocol;
using nlohmann::json;

std::string text_of(const json& error) {
  const auto text = error.find("desc");
  return text != error.end() && text->is_string() ? text->get<std::string>() : "QEMU gives no reason";
}

bool offers_oob(const json& greeting) {
  const json offered = greeting.is_object() ? greeting.value("capabilities", json()) : json();
  return offered.is_array() && std::find(offered.begin(), offered.end(), json("oob")) != offered.end();
}

}  // namespace

QmpClient::QmpClient(asio::io_context& io, std::chrono::milliseconds patience, Callbacks callbacks)
    : io_(io), socket_(io), timer_(io), patience_(patience), callbacks_(std::move(callbacks)) {}

void QmpClient::connect(asio::io_context& io, const std::string& path, std::chrono::milliseconds patience,
                        Callbacks callbacks, std::function<void(Connected)> done) {
  const std::shared_ptr<QmpClient> self(new QmpClient(io, patience, std::move(callbacks)));
  asio::post(io, [self, path, done = std::move(done)]() mutable { self->start(path, std::move(done)); });
}

void QmpClient::start(const std::string& path, std::function<void(Connected)> done) {
  path_ = path;
  on_connected_ = std::move(done);
  if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
    return connected(nullptr, {Problem::Kind::kBadRequest, "not a socket's path", path, ""}, false);
  }
  timer_.expires_after(patience_);
  timer_.async_wait([self = shared_from_this()](const std::error_code& error) {
    if (error || self->greeted_) return;
    self->connected(nullptr,
                    {Problem::Kind::kUnreachable, "QEMU's monitor does not greet", self->path_,
                     "another program may hold it: give QEMU one more -qmp socket"},
                    false);
  });
  socket_.async_connect(Protocol::endpoint(path), [self = shared_from_this()](const std::error_code& error) {
    if (self->down_) return;
    if (!error) return self->read();
    const std::error_code no_file(ENOENT, asio::error::get_system_category());
    const bool gone = error == asio::error::connection_refused || error == no_file;
    self->connected(nullptr,
                    {Problem::Kind::kUnreachable, "no QEMU at this monitor", self->path_,
                     error.message() + "; start it with -qmp unix:PATH,server=on,wait=off"},
                    gone);
  });
}

void QmpClient::connected(std::shared_ptr<QmpClient> client, Problem problem, bool gone) {
  const auto done = std::exchange(on_connected_, nullptr);
  if (client == nullptr) close();
  if (done) done({std::move(client), std::move(problem), gone});
}

void QmpClient::read() {
  socket_.async_read_some(asio::buffer(space_),
                          [self = shared_from_this()](const std::error_code& error, std::size_t count) {
                            if (self->down_) return;
                            if (error)
                              return self->go_down(error == asio::error::eof ? "QEMU closed it" : error.message());
                            self->decoder_.append(std::string_view(self->space_.data(), count));
                            json message;
                            QmpStatus status = QmpStatus::kNeedMore;
                            while (!self->down_ && (status = self->decoder_.next(message)) == QmpStatus::kMessage)
                              self->dispatch(message);
                            if (self->down_) return;
                            if (status == QmpStatus::kOversized)
                              return self->go_down("a message larger than any of QEMU's");
                            if (status == QmpStatus::kMalformed) return self->go_down("what comes is not QMP");
                            self->read();
                          });
}

void QmpClient::dispatch(const json& message) {
  if (!greeted_) {
    if (!message.contains("QMP")) return go_down("what comes is not QMP");
    greeted_ = true;
    oob_ = offers_oob(message["QMP"]);
    json enable = json::object();
    if (oob_) enable["enable"] = {"oob"};
    return execute({"qmp_capabilities", std::move(enable)}, [this](const QmpReply& reply) {
      if (reply.ok()) return connected(shared_from_this(), {}, false);
      connected(nullptr, {Problem::Kind::kUnreachable, "QEMU's monitor refuses", path_, reply.text}, false);
    });
  }
  if (const auto event = message.find("event"); event != message.end() && event->is_string()) {
    const auto data = message.find("data");
    if (callbacks_.on_event) callbacks_.on_event(event->get<std::string>(), data == message.end() ? json() : *data);
    return;
  }
  const auto id = message.find("id");
  if (id == message.end() || !id->is_number_unsigned()) return go_down("a reply to nothing");
  const auto found = waiting_.find(id->get<std::uint64_t>());
  if (found == waiting_.end()) return go_down("a reply to nothing");
  const Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  QmpReply reply;
  if (const auto value = message.find("return"); value != message.end()) {
    reply.value = *value;
  } else {
    const auto error = message.find("error");
    reply.error = QmpReply::Error::kRefused;
    reply.text = error != message.end() && error->is_object() ? text_of(*error) : "neither result nor error";
  }
  waiting.handler(reply);
}

void QmpClient::execute(QmpCommand command, Handler on_reply) {
  send("execute", std::move(command), std::move(on_reply));
}

void QmpClient::execute_oob(QmpCommand command, Handler on_reply) {
  send(oob_ ? "exec-oob" : "execute", std::move(command), std::move(on_reply));
}

void QmpClient::send(const char* verb, QmpCommand command, Handler on_reply) {
  if (down_) {
    asio::post(io_, [on_reply = std::move(on_reply)] {
      on_reply({{}, QmpReply::Error::kLost, "lost QEMU's monitor"});
    });
    return;
  }
  const std::uint64_t id = next_id_++;
  json message = {{verb, command.name}, {"id", id}};
  if (!command.arguments.empty()) message["arguments"] = std::move(command.arguments);
  waiting_.emplace(id,
                   Waiting{std::move(on_reply), std::move(command.name), std::chrono::steady_clock::now() + patience_});
  queue_.push_back(message.dump() + "\n");
  if (waiting_.size() == 1) arm(id);
  if (!writing_) write();
}

// One timer for all: the oldest command's deadline comes first.
void QmpClient::arm(std::uint64_t id) {
  timer_.expires_at(waiting_.at(id).deadline);
  timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
    const auto self = weak.lock();
    if (error || !self || self->down_ || self->waiting_.empty()) return;
    const auto& [oldest, waiting] = *self->waiting_.begin();
    if (waiting.deadline > std::chrono::steady_clock::now()) return self->arm(oldest);
    self->go_down("no answer to " + waiting.command);
  });
}

void QmpClient::write() {
  writing_ = true;
  asio::async_write(socket_, asio::buffer(queue_.front()),
                    [self = shared_from_this()](const std::error_code& error, std::size_t) {
                      self->writing_ = false;
                      if (self->down_) return;
                      if (error) return self->go_down(error.message());
                      self->queue_.pop_front();
                      if (!self->queue_.empty()) self->write();
                    });
}

void QmpClient::batch(std::vector<QmpCommand> commands, BatchHandler done) {
  batch_from(std::make_shared<std::vector<QmpCommand>>(std::move(commands)), std::make_shared<std::vector<QmpReply>>(),
             false, std::move(done));
}

void QmpClient::sequence(std::vector<QmpCommand> commands, Handler done) {
  batch_from(std::make_shared<std::vector<QmpCommand>>(std::move(commands)), std::make_shared<std::vector<QmpReply>>(),
             true, [done = std::move(done)](const std::vector<QmpReply>& replies) {
               done(replies.empty() ? QmpReply{} : replies.back());
             });
}

void QmpClient::batch_from(std::shared_ptr<std::vector<QmpCommand>> commands,
                           std::shared_ptr<std::vector<QmpReply>> replies, bool stop_at_refusal, BatchHandler done) {
  if (replies->size() == commands->size()) return done(*replies);
  const std::size_t next = replies->size();
  execute((*commands)[next], [self = shared_from_this(), commands, replies, stop_at_refusal,
                              done = std::move(done)](const QmpReply& reply) mutable {
    replies->push_back(reply);
    const bool stop = reply.error == QmpReply::Error::kLost || (stop_at_refusal && !reply.ok());
    if (stop) return done(*replies);
    self->batch_from(commands, replies, stop_at_refusal, std::move(done));
  });
}

void QmpClient::close() {
  callbacks_ = {};
  on_connected_ = nullptr;
  go_down("closed");
}

void QmpClient::go_down(const std::string& why) {
  if (down_) return;
  down_ = true;
  const auto self = shared_from_this();  // whoever waits may hold the last reference, or need this object
  timer_.cancel();
  std::error_code ignored;  // closing: nothing is left to tell anybody
  socket_.close(ignored);
  const Callbacks callbacks = std::exchange(callbacks_, {});
  const auto on_connected = std::exchange(on_connected_, nullptr);
  const auto waiting = std::exchange(waiting_, {});
  asio::post(io_, [self, callbacks, on_connected, waiting, why] {
    if (on_connected) {
      on_connected({nullptr, {Problem::Kind::kUnreachable, "QEMU's monitor is of no use", self->path_, why}, false});
    }
    for (const auto& [id, each] : waiting) {
      each.handler({{}, QmpReply::Error::kLost, "lost QEMU's monitor: " + why});
    }
    if (!on_connected && callbacks.on_down) callbacks.on_down(why);
  });
}

}  // namespace sealift::vm
