//! The user's own VirtualServices: the weights of two destinations in the routes that the Rollout names, and nothing else of them.
//!
//! A weight that is not there is 0. What is as it should be is not written, so an object that leads everybody to the stable
//! side stays as it is, to the byte, until the first raise. Destinations of others keep their weights; their share is taken
//! from the stable side.

use serde_json::{Value, json};

use super::spec::{Shifted, VirtualServiceRef};
use crate::release::Side;

/// What routes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Percent that the canary side gets; where routes differ, the most.
    pub candidate: u8,
    /// Whether all routes say just that.
    pub current: bool,
}

impl Shown {
    /// What several VirtualServices say together.
    pub fn with(self, other: Self) -> Self {
        let candidate = self.candidate.max(other.candidate);
        let current = self.current && other.current && self.candidate == other.candidate;
        Self { candidate, current }
    }
}

/// A route that cannot be shifted, in words that name the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.strategy.canary.trafficRouting.istio.virtualService: Invalid value: \"{name}\": {message}")]
pub struct RouteProblem {
    name: String,
    message: String,
}

/// A kind of routes in a VirtualService.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Tls,
    Tcp,
}

impl Protocol {
    const fn field(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

/// The two destinations of one route, and where they stand.
struct Pair {
    protocol: Protocol,
    route: usize,
    stable: usize,
    candidate: usize,
    weights: (i64, i64),
    others: i64,
}

impl Pair {
    fn at(&self, index: usize) -> String {
        format!("/spec/{}/{}/route/{index}", self.protocol.field(), self.route)
    }
}

/// What one VirtualService is to say.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Who is told apart.
    pub shifted: &'a Shifted,
    /// Which of its VirtualServices.
    pub of: &'a VirtualServiceRef,
}

impl Named<'_> {
    /// Reads the live object.
    ///
    /// # Errors
    /// When it has not the routes, or they not the destinations, that the Rollout names.
    pub fn read(self, live: &Value) -> Result<Shown, RouteProblem> {
        let pairs = self.pairs(live)?;
        let candidate = pairs.iter().map(|pair| pair.weights.1).max().unwrap_or(0).clamp(0, 100);
        let wanted = |pair: &Pair| (100 - candidate - pair.others, candidate);
        let current = pairs.iter().all(|pair| pair.weights == wanted(pair));
        Ok(Shown { candidate: u8::try_from(candidate).unwrap_or(100), current })
    }

    /// The JSON Patch that gives the canary side this percentage; `None` if it has it.
    ///
    /// # Errors
    /// As [`Self::read`], and when destinations of others do not leave as much.
    pub fn shift(self, live: &Value, percent: u8) -> Result<Option<Value>, RouteProblem> {
        let mut patch = Vec::new();
        for pair in self.pairs(live)? {
            let candidate = i64::from(percent);
            let stable = 100 - candidate - pair.others;
            if stable < 0 {
                let others = pair.others;
                return self
                    .problem(format!("other destinations have {others} %, which leaves none for {percent} %"));
            }
            for (index, live, wanted) in
                [(pair.stable, pair.weights.0, stable), (pair.candidate, pair.weights.1, candidate)]
            {
                if live != wanted {
                    patch
                        .push(json!({"op": "add", "path": format!("{}/weight", pair.at(index)), "value": wanted}));
                }
            }
        }
        if patch.is_empty() {
            return Ok(None);
        }
        let version = &live["metadata"]["resourceVersion"];
        let mut tested = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
        tested.extend(patch);
        Ok(Some(Value::Array(tested)))
    }

    /// Gives what Git says of the object the weights that it has: they are the engine's.
    pub fn keep(self, wanted: &mut Value, live: &Value) {
        let (Ok(ours), Ok(theirs)) = (self.pairs(wanted), self.pairs(live)) else { return };
        for (wants, has) in ours.iter().zip(theirs) {
            for (to, from) in [(wants.stable, has.stable), (wants.candidate, has.candidate)] {
                let weight = live.pointer(&has.at(from)).map(|destination| destination["weight"].clone());
                let destination = wanted.pointer_mut(&wants.at(to)).and_then(Value::as_object_mut);
                if let (Some(weight), Some(destination)) = (weight.filter(|weight| !weight.is_null()), destination)
                {
                    destination.insert("weight".to_owned(), weight);
                }
            }
        }
    }

    fn problem<T>(self, message: impl Into<String>) -> Result<T, RouteProblem> {
        Err(RouteProblem { name: self.of.name.clone(), message: message.into() })
    }

    fn pairs(self, live: &Value) -> Result<Vec<Pair>, RouteProblem> {
        let chosen = self.chosen(live)?;
        let pairs = chosen
            .into_iter()
            .map(|(protocol, index)| self.pair((protocol, index), &live["spec"][protocol.field()][index]));
        pairs.collect()
    }

    /// The routes that are shifted: those that are named, else the only one of all.
    fn chosen(self, live: &Value) -> Result<Vec<(Protocol, usize)>, RouteProblem> {
        let of = self.of;
        let routes =
            |protocol: Protocol| live["spec"][protocol.field()].as_array().map(Vec::as_slice).unwrap_or_default();
        let (http, tls, tcp) = (routes(Protocol::Http), routes(Protocol::Tls), routes(Protocol::Tcp));
        if of.routes.is_empty() && of.tls.is_empty() && of.tcp.is_empty() {
            return match (http, tls, tcp) {
                ([_], _, _) => Ok(vec![(Protocol::Http, 0)]),
                ([], [_], _) => Ok(vec![(Protocol::Tls, 0)]),
                ([], [], [_]) => Ok(vec![(Protocol::Tcp, 0)]),
                ([], [], []) => self.problem("it has no route"),
                ([], ..) => {
                    self.problem("it has several routes: name those to shift in `tlsRoutes` or `tcpRoutes`")
                }
                _ => self.problem("it has several HTTP routes: name those to shift in `routes`"),
            };
        }
        let mut chosen = Vec::new();
        for name in &of.routes {
            match http.iter().position(|route| route["name"] == name.as_str()) {
                Some(index) => chosen.push((Protocol::Http, index)),
                None => {
                    return self
                        .problem(format!("HTTP Route '{name}' is not found in the defined Virtual Service."));
                }
            }
        }
        for (protocol, routes, matches) in [(Protocol::Tls, tls, &of.tls), (Protocol::Tcp, tcp, &of.tcp)] {
            for wanted in matches {
                let fits = |route: &&Value| {
                    let conditions = route["match"].as_array().into_iter().flatten();
                    conditions.into_iter().any(|condition| wanted.fits(condition))
                };
                let found: Vec<usize> =
                    routes.iter().enumerate().filter(|(_, route)| fits(route)).map(|(index, _)| index).collect();
                if found.is_empty() {
                    let kind = protocol.field();
                    return self.problem(format!("no {kind} route matches what is named in `{kind}Routes`"));
                }
                chosen.extend(found.into_iter().map(|index| (protocol, index)));
            }
        }
        chosen.dedup();
        Ok(chosen)
    }

    fn pair(self, (protocol, index): (Protocol, usize), route: &Value) -> Result<Pair, RouteProblem> {
        let destinations = route["route"].as_array().map(Vec::as_slice).unwrap_or_default();
        let find =
            |side: Side| match destinations.iter().position(|found| self.leads_to(side, &found["destination"])) {
                Some(at) => Ok(at),
                None => {
                    let missing = self.called(side);
                    self.problem(format!("{} route {index} has no destination with {missing}", protocol.field()))
                }
            };
        let (stable, candidate) = (find(Side::Stable)?, find(Side::Candidate)?);
        let weight = |at: usize| destinations[at]["weight"].as_i64().unwrap_or(0);
        let others = (0..destinations.len()).filter(|at| *at != stable && *at != candidate).map(weight).sum();
        Ok(Pair {
            protocol,
            route: index,
            stable,
            candidate,
            weights: (weight(stable), weight(candidate)),
            others,
        })
    }

    /// By its subset where a DestinationRule tells the sides apart, else by its host, of which, as Argo Rollouts reads it, the first
    /// label is the Service's name.
    fn leads_to(self, side: Side, destination: &Value) -> bool {
        if let Some(rule) = &self.shifted.rule {
            return destination["subset"] == rule.subset(side);
        }
        let host = destination["host"].as_str().unwrap_or_default().split('.').next().unwrap_or_default();
        self.shifted.service(side) == Some(host)
    }

    fn called(self, side: Side) -> String {
        match &self.shifted.rule {
            Some(rule) => format!("the subset \"{}\"", rule.subset(side)),
            None => format!("the host \"{}\"", self.shifted.service(side).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{DestinationRuleRef, RouteMatch};
    use super::*;

    fn canary(routes: &[&str]) -> Shifted {
        Shifted {
            stable_service: Some("stable".to_owned()),
            canary_service: Some("canary".to_owned()),
            virtual_services: vec![VirtualServiceRef {
                name: "web".to_owned(),
                routes: routes.iter().map(|&name| name.to_owned()).collect(),
                tls: Vec::new(),
                tcp: Vec::new(),
            }],
            rule: None,
        }
    }

    fn read(live: &Value, shifted: &Shifted) -> Result<Shown, RouteProblem> {
        Named { shifted, of: &shifted.virtual_services[0] }.read(live)
    }

    fn shift(live: &Value, shifted: &Shifted, percent: u8) -> Result<Option<Value>, RouteProblem> {
        Named { shifted, of: &shifted.virtual_services[0] }.shift(live, percent)
    }

    fn keep(wanted: &mut Value, live: &Value, shifted: &Shifted) {
        Named { shifted, of: &shifted.virtual_services[0] }.keep(wanted, live);
    }

    fn service(routes: Value) -> Value {
        json!({"metadata": {"resourceVersion": "7"}, "spec": {"http": routes}})
    }

    fn to(host: &str, weight: Option<i64>) -> Value {
        let destination = json!({"destination": {"host": host}});
        match weight {
            None => destination,
            Some(weight) => json!({"destination": {"host": host}, "weight": weight}),
        }
    }

    #[test]
    fn the_seeds_route_is_at_rest_and_not_written_until_the_first_raise() {
        let seed =
            service(json!([{"name": "primary", "route": [to("stable.ns.svc", Some(100)), to("canary", None)]}]));
        let named = canary(&["primary"]);
        assert_eq!(read(&seed, &named), Ok(Shown { candidate: 0, current: true }));
        assert_eq!(shift(&seed, &named, 0), Ok(None));
        let expected = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/spec/http/0/route/0/weight", "value": 90},
            {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 10},
        ]);
        assert_eq!(shift(&seed, &named, 10), Ok(Some(expected)));
    }

    #[test]
    fn others_keep_their_weight_and_unnamed_routes_are_left_alone() {
        let live = service(json!([
            {"name": "admin", "route": [to("admin", Some(100))]},
            {"name": "primary", "route": [to("stable", Some(75)), to("legacy", Some(5)), to("canary", Some(20))]},
        ]));
        let named = canary(&["primary"]);
        assert_eq!(read(&live, &named), Ok(Shown { candidate: 20, current: true }));
        let patch = shift(&live, &named, 40).unwrap().unwrap();
        assert_eq!(patch[1], json!({"op": "add", "path": "/spec/http/1/route/0/weight", "value": 55}));
        assert_eq!(patch.as_array().unwrap().len(), 3);
        assert!(shift(&live, &named, 96).is_err());
    }

    #[test]
    fn what_git_says_keeps_the_weights_that_are_shown() {
        let mut wanted = service(json!([
            {"name": "new", "route": [to("admin", None)]},
            {"name": "primary", "timeout": "3s", "route": [to("stable", Some(100)), to("canary", None)]},
        ]));
        let live =
            service(json!([{"name": "primary", "route": [to("canary", Some(30)), to("stable", Some(70))]}]));
        keep(&mut wanted, &live, &canary(&["primary"]));
        let route = &wanted["spec"]["http"][1];
        assert_eq!(route["route"], json!([to("stable", Some(70)), to("canary", Some(30))]));
        assert_eq!(route["timeout"], "3s");
        let before = wanted.clone();
        keep(&mut wanted, &service(json!([])), &canary(&["primary"]));
        assert_eq!(wanted, before);
    }

    #[test]
    fn what_cannot_be_shifted_is_named() {
        let one = service(json!([{"route": [to("stable", Some(100)), to("canary", Some(0))]}]));
        assert!(read(&one, &canary(&[])).is_ok());
        let said = |live: &Value, routes: &[&str]| read(live, &canary(routes)).unwrap_err().to_string();
        assert!(said(&one, &["primary"]).contains("HTTP Route 'primary' is not found"));
        assert!(said(&service(json!([{}, {}])), &[]).contains("several HTTP routes"));
        assert!(said(&service(json!([{"route": [to("stable", None)]}])), &[]).contains("\"canary\""));
        let bent = service(json!([{"route": [to("stable", Some(100)), to("canary", Some(30))]}]));
        assert_eq!(read(&bent, &canary(&[])), Ok(Shown { candidate: 30, current: false }));
    }

    #[test]
    fn subsets_and_other_protocols_are_shifted_where_the_rollout_names_them() {
        let subset =
            |name: &str, weight: i64| json!({"destination": {"host": "web", "subset": name}, "weight": weight});
        let rule = DestinationRuleRef {
            name: "rule".to_owned(),
            stable_subset: "old".to_owned(),
            canary_subset: "new".to_owned(),
        };
        let shifted = Shifted { rule: Some(rule), stable_service: None, canary_service: None, ..canary(&[]) };
        let one = service(json!([{"route": [subset("old", 70), subset("new", 30)]}]));
        assert_eq!(read(&one, &shifted), Ok(Shown { candidate: 30, current: true }));
        let other = service(json!([{"route": [subset("old", 70), subset("newer", 30)]}]));
        assert!(read(&other, &shifted).unwrap_err().to_string().contains("subset \"new\""));

        let tls = |port: i64, hosts: Value| {
            json!({
                "match": [{"port": port, "sniHosts": hosts}], "route": [to("stable", Some(100)), to("canary", Some(0))],
            })
        };
        let live = json!({"metadata": {"resourceVersion": "7"}, "spec": {
            "tls": [tls(443, json!(["a", "b"])), tls(444, json!(["a"]))],
            "tcp": [{"match": [{"port": 5432}], "route": [to("stable", Some(100)), to("canary", None)]}],
        }});
        let mut named = canary(&[]);
        assert!(read(&live, &named).unwrap_err().to_string().contains("tlsRoutes"));
        named.virtual_services[0].tls =
            vec![RouteMatch { port: Some(443), sni_hosts: vec!["b".into(), "a".into()] }];
        named.virtual_services[0].tcp = vec![RouteMatch { port: Some(5432), sni_hosts: Vec::new() }];
        let patch = shift(&live, &named, 10).unwrap().unwrap();
        let paths: Vec<&str> =
            patch.as_array().unwrap()[1..].iter().map(|op| op["path"].as_str().unwrap()).collect();
        let expected = [
            "/spec/tls/0/route/0/weight",
            "/spec/tls/0/route/1/weight",
            "/spec/tcp/0/route/0/weight",
            "/spec/tcp/0/route/1/weight",
        ];
        assert_eq!(paths, expected);
    }
}
