// Facts about one network device and its addresses.
#ifndef TOE_ENGINE_NET_DEVICE_H_
#define TOE_ENGINE_NET_DEVICE_H_

#include <string>
#include <vector>

#include "base/addr.h"
#include "base/result.h"
#include "engine/net/events.h"
#include "port/port.h"

namespace toe::engine::net {

/// Describes the interface `name`; one sentence if there is none, or it is no Ethernet device.
Result<port::Device> read_device(const std::string& name);

/// What of the device's MTU the engine uses: at most `most`, which its frames can hold. Logs one
/// sentence if that is less than the MTU.
std::uint32_t usable_mtu(const std::string& name, std::uint32_t mtu, std::uint32_t most);

/// The link as it is now; `removed` when there is none of that number any more.
Result<LinkEvent> read_link(int ifindex);

/// The addresses of a device that TCP may use now: not tentative, not link-local.
Result<std::vector<IpAddr>> read_addresses(int ifindex);

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_DEVICE_H_
