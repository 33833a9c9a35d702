//! A name server of the test's own, which answers by the name it is asked for.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, NULL};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;

/// What it was asked: from where, over what, which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub from: IpAddr,
    pub tcp: bool,
    pub name: String,
    pub edns: bool,
}

/// A running server.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: u8,
}

impl Upstream {
    /// Listens on port 53 of an address of the calling thread's namespace; addresses it tells end in `answer`.
    pub fn start(address: IpAddr, answer: u8) -> Self {
        let upstream = Self { answer, ..Self::default() };
        let udp = UdpSocket::bind((address, 53)).unwrap();
        let tcp = TcpListener::bind((address, 53)).unwrap();
        let (one, other) = (upstream.clone(), upstream.clone());
        std::thread::spawn(move || one.serve_udp(&udp));
        std::thread::spawn(move || other.serve_tcp(&tcp));
        upstream
    }

    /// What it was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 65535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            for answer in self.answers(&buffer[..length], from, false) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut message).unwrap();
                for answer in self.answers(&message, stream.peer_addr().unwrap(), true) {
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    // In two pieces, as the network may do.
                    stream.write_all(&length).unwrap();
                    stream.write_all(&answer).unwrap();
                }
            }
        }
    }

    fn answers(&self, bytes: &[u8], from: SocketAddr, tcp: bool) -> Vec<Vec<u8>> {
        let question = Message::from_bytes(bytes).unwrap();
        let name = question.queries[0].name().to_ascii();
        let edns = question.edns.is_some();
        self.asked.lock().unwrap().push(Asked { from: from.ip(), tcp, name: name.clone(), edns });
        let mut answer = question.clone().into_response();
        let here = |last| RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
        let mut add = |data| {
            let record = Record::from_rdata(question.queries[0].name().clone(), 60, data);
            answer.answers.push(record);
        };
        match name.split('.').next().unwrap() {
            "silent" => return Vec::new(),
            // One that ends in 0 answers nobody.
            _ if self.answer == 0 => return Vec::new(),
            "failing" => answer.metadata.response_code = ResponseCode::ServFail,
            "refused" => answer.metadata.response_code = ResponseCode::Refused,
            "missing" => answer.metadata.response_code = ResponseCode::NXDomain,
            "large" if !tcp => answer.metadata.truncation = true,
            "large" => (0..200).for_each(|last| add(here(last))),
            "strange" => {
                let data = NULL::with(b"what".to_vec());
                add(RData::Unknown { code: RecordType::Unknown(65400), rdata: data });
            }
            "forged" => {
                add(here(self.answer));
                let good = answer.to_vec().unwrap();
                let mut other_id = good.clone();
                other_id[0] ^= 1;
                let mut other_name = good.clone();
                other_name[13] = b'x';
                return vec![other_id, other_name, vec![0; 5], good];
            }
            _ => add(here(self.answer)),
        }
        vec![answer.to_vec().unwrap()]
    }
}
