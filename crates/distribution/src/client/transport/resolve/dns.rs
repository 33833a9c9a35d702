//! A stub resolver: A and AAAA asked side by side over UDP, over TCP where the answer is cut.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::conf::ResolvConf;
use crate::client::error::TransportError;

/// Most addresses that are taken from one answer.
const ADDRESS_LIMIT: usize = 32;

/// Why a name has no address.
enum Failure {
    /// The name does not exist, or has no addresses: the next candidate may.
    NoSuchHost,
    /// The server could not be asked or could not answer.
    Server(&'static str),
}

/// The addresses of `host`, v6 and v4 as they came.
///
/// # Errors
/// [`TransportError::Lookup`].
pub(super) async fn lookup(conf: &ResolvConf, host: &str) -> Result<Vec<IpAddr>, TransportError> {
    let mut last = Failure::NoSuchHost;
    for candidate in conf.candidates(host) {
        match name(conf, &candidate).await {
            Ok(addresses) => return Ok(addresses),
            Err(failure) => last = failure,
        }
    }
    let text = match last {
        Failure::NoSuchHost => "no such host",
        Failure::Server(text) => text,
    };
    Err(TransportError::Lookup(format!("{host} on {}: {text}", conf.servers[0])))
}

async fn name(conf: &ResolvConf, name: &str) -> Result<Vec<IpAddr>, Failure> {
    let name = Name::from_ascii(format!("{name}.")).map_err(|_| Failure::NoSuchHost)?;
    let (v4, v6) = tokio::join!(records(conf, &name, RecordType::A), records(conf, &name, RecordType::AAAA));
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.extend(v6);
            if v4.is_empty() { Err(Failure::NoSuchHost) } else { Ok(v4) }
        }
        (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.is_empty() => Ok(some),
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
}

/// Asks server after server, round after round.
async fn records(conf: &ResolvConf, name: &Name, kind: RecordType) -> Result<Vec<IpAddr>, Failure> {
    let mut last = Failure::Server("i/o timeout");
    for _ in 0..conf.attempts {
        for server in &conf.servers {
            let Ok(answer) = timeout(conf.timeout, ask(*server, name, kind, conf)).await else { continue };
            match answer {
                Ok(addresses) => return Ok(addresses),
                Err(Failure::NoSuchHost) => return Err(Failure::NoSuchHost),
                Err(failure) => last = failure,
            }
        }
    }
    Err(last)
}

async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    conf: &ResolvConf,
) -> Result<Vec<IpAddr>, Failure> {
    let mut query = Message::query();
    query.metadata.op_code = OpCode::Query;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), kind));
    let bytes = query.to_vec().map_err(|_| Failure::NoSuchHost)?;
    let unreachable = |_| Failure::Server("server misbehaving");
    let mut answer = None;
    if !conf.tcp {
        answer = Some(over_udp(server, &bytes, &query).await.map_err(unreachable)?);
    }
    let answer = match answer {
        Some(answer) if !answer.metadata.truncation => answer,
        _ => over_tcp(server, &bytes, &query).await.map_err(unreachable)?,
    };
    read(&answer)
}

fn read(answer: &Message) -> Result<Vec<IpAddr>, Failure> {
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(Failure::NoSuchHost),
        _ => return Err(Failure::Server("server misbehaving")),
    }
    // A recursive server gives the whole chain of aliases; whose name each address has does not matter then.
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Ok(addresses.take(ADDRESS_LIMIT).collect())
}

/// Whether `answer` answers `query`: number and question are what guards against forged datagrams.
fn answers(answer: &Message, query: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.queries.len() == 1
        && answer.queries[0].query_type() == query.queries[0].query_type()
        && answer.queries[0].name().to_lowercase() == query.queries[0].name().to_lowercase()
}

async fn over_udp(server: SocketAddr, bytes: &[u8], query: &Message) -> std::io::Result<Message> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    // Connected, so that the kernel drops what others send and tells when nobody listens.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(&answer, query)
        {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], query: &Message) -> std::io::Result<Message> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| invalid())?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(|_| invalid())?;
    if answers(&answer, query) { Ok(answer) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::MessageType;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA};
    use tokio::net::TcpListener;

    use super::*;

    /// The answer of a server that knows `known.test`, and `large.test` by TCP only.
    fn reply(query: &Message, tcp: bool) -> Message {
        let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        let question = query.queries[0].clone();
        let name = question.name().clone();
        let data = match question.query_type() {
            RecordType::A => RData::A(A::new(192, 0, 2, 1)),
            _ => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        };
        match name.to_string().as_str() {
            "large.test." if !tcp => answer.metadata.truncation = true,
            "broken.test." => answer.metadata.response_code = ResponseCode::ServFail,
            "known.test." | "large.test." => {
                answer.add_answer(Record::from_rdata(name, 60, data));
            }
            _ => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.add_query(question);
        answer
    }

    async fn server() -> ResolvConf {
        let udp = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let mut forged = reply(&query, false);
                forged.metadata.id ^= 1;
                udp.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
                udp.send_to(&reply(&query, false).to_vec().unwrap(), client).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = stream.read_u16().await.unwrap();
                let mut buffer = vec![0; usize::from(length)];
                stream.read_exact(&mut buffer).await.unwrap();
                let bytes = reply(&Message::from_vec(&buffer).unwrap(), true).to_vec().unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        });
        ResolvConf { servers: vec![address], search: vec!["test".to_owned()], ..ResolvConf::parse("") }
    }

    #[tokio::test]
    async fn both_families_are_asked_and_cut_answers_by_tcp() {
        let conf = server().await;
        let both: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        for name in ["known.test", "known.test.", "known", "large.test"] {
            assert_eq!(lookup(&conf, name).await.unwrap(), both, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_as_go_does() {
        let conf = server().await;
        let error = lookup(&conf, "nowhere.test").await.unwrap_err().to_string();
        assert_eq!(error, format!("dial tcp: lookup nowhere.test on {}: no such host", conf.servers[0]));
        let error = lookup(&conf, "broken.test.").await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!("dial tcp: lookup broken.test. on {}: server misbehaving", conf.servers[0])
        );
    }
}
