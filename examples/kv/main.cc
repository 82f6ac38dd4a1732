// kv: a Redis-protocol server whose data lives in an enclave. Migration is nothing that this program knows of, but for
// its end: when the enclave has gone to another machine, so has everything that was to be served here.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <asio/post.hpp>
#include <filesystem>
#include <iostream>

#include "examples/kv/server/listener.h"
#include "examples/kv/server/server.h"

namespace {

struct Arguments {
  std::string listen = "127.0.0.1:6379";
  std::string enclave = std::filesystem::read_symlink("/proc/self/exe").replace_filename("kv.enclave");
  unsigned workers = 4;
};

int serve(const Arguments& arguments) {
  asio::io_context io(1);
  kv::Listener listener(io.get_executor(), kv::parse_address(arguments.listen));
  const auto enclave = sealift::Enclave::open(arguments.enclave);
  if (listener.shared() && !enclave->status().adopted) {
    throw std::runtime_error("cannot listen on " + listener.address() +
                             ": another kv serves there: choose another "
                             "with --listen");
  }
  kv::Server server(*enclave, arguments.workers);
  listener.listen();
  server.accept_from(listener.acceptor());
  std::cout << "listening on " << listener.address() << std::endl;
  std::thread watch([&] {
    enclave->wait_until_gone();
    asio::post(io, [&] { io.stop(); });
  });
  io.run();
  // At once, for on this same machine the enclave's next program may be waiting to be connected to.
  listener.acceptor().close();
  server.stop();
  watch.join();
  if (!enclave->status().destroyed) throw std::runtime_error(enclave->crash_report());
  std::cout << "the enclave has migrated away" << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("kv: a Redis-protocol server whose data lives in an enclave");
  app.add_option("--listen", arguments.listen, "IP:PORT for clients; port 0 takes a free one and prints it")
      ->capture_default_str();
  app.add_option("--enclave", arguments.enclave, "The signed enclave (default: kv.enclave beside this program)");
  app.add_option("--workers", arguments.workers, "Threads that serve connections")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return serve(arguments);
  } catch (const std::exception& error) {
    std::cerr << "kv: " << error.what() << '\n';
    return 1;
  }
}
